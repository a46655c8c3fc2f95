#!/bin/sh
# The application beside nginx.
exec node application.mjs

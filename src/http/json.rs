//! JSON responses for publishers and administrators.

use crate::metrics::JSON;
use crate::nginx::request::{Outcome, Request};
use serde_json::json;

/// Answers with this status and JSON text. The caller sets all other headers.
pub fn answer(request: &Request, status: u16, body: &str) -> Outcome {
    request.set_status(status);
    request.answer(JSON, body.as_bytes())
}

/// Answers with `{"error":"one sentence"}`.
pub fn error(request: &Request, status: u16, why: &str) -> Outcome {
    answer(request, status, &json!({ "error": why }).to_string())
}

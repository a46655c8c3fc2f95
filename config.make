# The rule that makes the library: cargo decides whether anything is to be done. It reads what configure
# has just made in $NGX_OBJS. CARGO_BUILD_TARGET would move the library into another directory, and make's
# own flags are not for the makefiles that a crate may bring.

cat << END                                                    >> $NGX_MAKEFILE

.PHONY:	ngx_http_sse_cargo

$ngx_http_sse_library:	ngx_http_sse_cargo
	unset CARGO_BUILD_TARGET MAKEFLAGS MFLAGS; \\
	objs=\`cd $NGX_OBJS && pwd\` && \\
	NGINX_SOURCE_DIR=\`pwd\` NGINX_BUILD_DIR=\$\$objs \\
	$ngx_http_sse_cargo rustc --manifest-path $ngx_addon_dir/Cargo.toml --lib --release --locked \\
		--crate-type staticlib --no-default-features --target-dir \$\$objs/ngx_http_sse_module

END

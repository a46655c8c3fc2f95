# The rule for the library: cargo decides whether it has to be built. It reads the files that configure has
# created in $NGX_OBJS. CARGO_BUILD_TARGET would move the library to another directory, and make's own flags
# must not be passed to the makefiles of crates.

cat << END                                                    >> $NGX_MAKEFILE

.PHONY:	ngx_http_sse_cargo

$ngx_http_sse_library:	ngx_http_sse_cargo
	unset CARGO_BUILD_TARGET MAKEFLAGS MFLAGS; \\
	objs=\`cd $NGX_OBJS && pwd\` && \\
	NGINX_SOURCE_DIR=\`pwd\` NGINX_BUILD_DIR=\$\$objs \\
	$ngx_http_sse_cargo rustc --manifest-path $ngx_addon_dir/Cargo.toml --lib --release --locked \\
		--crate-type staticlib --no-default-features --target-dir \$\$objs/ngx_http_sse_module

END

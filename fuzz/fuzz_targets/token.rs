#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nginx_sse_fuzz::fuzz::token::run(data));

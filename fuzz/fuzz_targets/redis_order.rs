#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nginx_sse_fuzz::redis::fuzz::redis_order::run(data));

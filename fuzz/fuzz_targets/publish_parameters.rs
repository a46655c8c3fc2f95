#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nginx_sse_fuzz::fuzz::publish_parameters::run(data));

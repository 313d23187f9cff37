//! libFuzzer's entry for [`tidegate_fuzz::http_api`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::http_api::run(data));

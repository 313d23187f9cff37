//! libFuzzer's entry for [`tidegate_fuzz::connection`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::connection::run(data));

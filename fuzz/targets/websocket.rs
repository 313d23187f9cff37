//! libFuzzer's entry for [`tidegate_fuzz::websocket`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::websocket::run(data));

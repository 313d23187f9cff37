//! libFuzzer's entry for [`tidegate_fuzz::coap_stream`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::coap_stream::run(data));

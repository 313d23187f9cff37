//! libFuzzer's entry for [`tidegate_fuzz::topic_filter`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::topic_filter::run(data));

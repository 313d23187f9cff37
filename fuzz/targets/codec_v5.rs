//! libFuzzer's entry for [`tidegate_fuzz::codec_v5`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::codec_v5::run(data));

//! libFuzzer's entry for [`tidegate_fuzz::codec_v31`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::codec_v31::run(data));

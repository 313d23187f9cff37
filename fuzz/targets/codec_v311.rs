//! libFuzzer's entry for [`tidegate_fuzz::codec_v311`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::codec_v311::run(data));

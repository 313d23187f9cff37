//! libFuzzer's entry for [`tidegate_fuzz::differential`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::differential::run(data));

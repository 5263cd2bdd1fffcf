//! libFuzzer's way in; the target itself is [`taba_fuzz::zlib_body`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| taba_fuzz::zlib_body(input));

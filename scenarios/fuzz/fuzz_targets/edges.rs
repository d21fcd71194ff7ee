#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| scenarios::hostile::guided(scenarios::hostile::edges, data));

#![no_main]

use fumocast_fuzz::in_time;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| in_time(fuzz_entry::syncml::run_wbxml, octets));

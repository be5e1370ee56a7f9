//! The public suffixes in the gate are those of the list.

use std::path::Path;

use portcullis_fit::{PUBLIC_SUFFIX_LIST, suffix_table};

#[test]
fn the_committed_table_is_made_of_the_committed_list() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../filter/policy/src/suffix/list.bin");
    let committed = std::fs::read(path).expect("the table is there");
    let made = suffix_table(PUBLIC_SUFFIX_LIST).expect("the list is one");
    assert!(
        made == committed,
        "run `cargo run -p portcullis-fit --bin portcullis-suffixes filter/policy/src/suffix/list.bin`"
    );
    assert!(made.len() <= 45 << 10, "{} bytes", made.len());
}

#[test]
fn what_is_no_list() {
    let check = |list: &str, expected: &str| {
        let error = suffix_table(list).expect_err(list);
        assert!(error.contains(expected), "{error}");
    };
    check("com\nco.uk\n", "says no day");
    check("// VERSION: 2026-10-22_1\n\nco.*.uk\n", "line 3: `co.*.uk`");
}

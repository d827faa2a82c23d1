//! The generated types are those of the schema.

#[test]
fn the_checked_in_types_are_what_the_schema_generates() {
    let folder = fumocast_tests::schema::generated_dir();
    for (name, text) in fumocast_tests::schema::generate().unwrap() {
        let checked_in = std::fs::read_to_string(folder.join(&name)).unwrap();
        assert!(checked_in == text, "{name} differs: run `cargo schema` and commit the result");
    }
}

//! Writes the Rust types of `proto/schema/*.proto` to `proto/src/generated`.

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let folder = fumocast_tests::schema::generated_dir();
    for (name, text) in fumocast_tests::schema::generate()? {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

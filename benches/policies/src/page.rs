//! Tables and figures in the pages that they are shown on, between markers.
//!
//! A block stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`, within a line or on
//! lines of its own. A name may stand in several places.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// What goes between the markers of a name.
pub struct Block {
    pub name: String,
    pub text: String,
}

impl Block {
    pub fn new(name: impl Into<String>, text: &(impl ToString + ?Sized)) -> Self {
        Self { name: name.into(), text: text.to_string() }
    }
}

/// The page with the text between the name's markers, or `None` if it has no such markers.
pub fn set(page: &str, Block { name, text }: &Block) -> Option<String> {
    let (start, end) = (format!("<!-- bench:{name} -->"), format!("<!-- /bench:{name} -->"));
    let (mut done, mut rest) = (String::new(), page);
    while let Some((before, after)) = rest.split_once(&start) {
        let (old, after) = after.split_once(&end)?;
        let text = text.trim_end();
        let text = if old.contains('\n') { format!("\n\n{text}\n\n") } else { text.to_owned() };
        done.extend([before, &start, &text, &end]);
        rest = after;
    }
    (!done.is_empty()).then(|| done + rest)
}

/// Where the benches' files are.
pub fn benches() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Sets the blocks in benches/README.md and in the crate's README.md, wherever these have markers.
pub fn update(blocks: &[Block]) -> io::Result<()> {
    let pages = [benches().join("README.md"), benches().join("../README.md")];
    for block in blocks {
        let mut found = false;
        for path in &pages {
            if let Some(page) = set(&fs::read_to_string(path)?, block) {
                fs::write(path, page)?;
                found = true;
            }
        }
        if !found {
            eprintln!("no page has markers for {}", block.name);
        }
    }
    Ok(())
}

/// Writes a plot to benches/plots.
pub fn plot(name: &str, svg: &str) -> io::Result<()> {
    let dir = benches().join("plots");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(name).with_extension("svg"), svg)
}

#[cfg(test)]
mod tests {
    use super::{Block, set};

    #[test]
    fn between_the_markers_and_nowhere_else() {
        let page =
            "a <!-- bench:x -->1<!-- /bench:x --> b\n<!-- bench:xy -->\nold\n<!-- /bench:xy -->";
        let page = set(page, &Block::new("x", &2)).expect("its markers");
        let page = set(&page, &Block::new("xy", "|new|\n")).expect("its markers");
        assert_eq!(
            page,
            "a <!-- bench:x -->2<!-- /bench:x --> b\n<!-- bench:xy -->\n\n|new|\n\n<!-- /bench:xy -->"
        );
        assert!(set(&page, &Block::new("y", &1)).is_none());
    }

    #[test]
    fn every_place_of_a_name() {
        let page = "<!-- bench:x --><!-- /bench:x -->, <!-- bench:x -->0<!-- /bench:x -->";
        let page = set(page, &Block::new("x", &3)).expect("its markers");
        assert_eq!(page.matches('3').count(), 2);
    }
}

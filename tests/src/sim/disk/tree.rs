//! The names: directories whose changes survive only once they are synced.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path},
};

use receiver::shell::disk::Entry;

use super::file::{File, Survival};
use crate::lab::rng::SeededRng;

/// Number of the root directory.
const ROOT: u64 = 0;

/// All files and directories, by number.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<u64, Node>,
    next: u64,
}

#[derive(Debug, Clone)]
enum Node {
    File(File),
    Directory(Directory),
}

#[derive(Debug, Clone, Default)]
struct Directory {
    entries: BTreeMap<OsString, u64>,
    medium: BTreeMap<OsString, u64>,
    /// Changes since the last sync, oldest first.
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Add(OsString, u64),
    Remove(OsString),
    Rename(OsString, OsString, u64),
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<OsString, u64>) {
        match self {
            Self::Add(name, id) => {
                entries.insert(name.clone(), *id);
            }
            Self::Remove(name) => {
                entries.remove(name);
            }
            Self::Rename(from, to, id) => {
                entries.remove(from);
                entries.insert(to.clone(), *id);
            }
        }
    }
}

impl Directory {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.entries);
        self.unsynced.push(change);
    }

    fn lose_power(&mut self, survival: Survival, rng: &mut SeededRng) {
        for change in std::mem::take(&mut self.unsynced) {
            let survives = match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Some => rng.below(2) == 0,
            };
            if survives {
                change.apply(&mut self.medium);
            }
        }
        self.entries.clone_from(&self.medium);
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]), next: 1 }
    }

    pub(super) fn find(&self, path: &Path) -> Option<u64> {
        names(path).try_fold(ROOT, |at, name| match self.nodes.get(&at)? {
            Node::Directory(directory) => directory.entries.get(name).copied(),
            Node::File(_) => None,
        })
    }

    pub(super) fn file(&self, id: u64) -> io::Result<&File> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_mut(&mut self, id: u64) -> io::Result<&mut File> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Returns the octets of all files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        let named = self.nodes.values().filter_map(|node| match node {
            Node::Directory(directory) => Some(directory.entries.values()),
            Node::File(_) => None,
        });
        named.flatten().filter_map(|id| self.file(*id).ok()).map(File::length).sum()
    }

    pub(super) fn make_file(&mut self, path: &Path) -> io::Result<u64> {
        let id = self.add(Node::File(File::default()));
        let (directory, name) = self.parent(path)?;
        directory.change(Change::Add(name.to_owned(), id));
        Ok(id)
    }

    pub(super) fn make_directory(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in names(path) {
            let found = self.directory(at)?.entries.get(name).copied();
            at = match found {
                Some(id) => id,
                None => {
                    let id = self.add(Node::Directory(Directory::default()));
                    self.directory(at)?.change(Change::Add(name.to_owned(), id));
                    id
                }
            };
            self.directory(at)?;
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path).ok_or(io::ErrorKind::NotFound)?;
        let directory = self.directory(id)?;
        directory.unsynced.clear();
        directory.medium.clone_from(&directory.entries);
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let id = self.find(path).ok_or(io::ErrorKind::NotFound)?;
        let Some(Node::Directory(directory)) = self.nodes.get(&id) else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        let entries = directory.entries.iter().map(|(name, id)| Entry {
            name: name.clone(),
            is_directory: matches!(self.nodes.get(id), Some(Node::Directory(_))),
        });
        Ok(entries.collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.find(from).ok_or(io::ErrorKind::NotFound)?;
        let to = to.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let (directory, name) = self.parent(from)?;
        directory.change(Change::Rename(name.to_owned(), to, id));
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path).ok_or(io::ErrorKind::NotFound)?;
        self.file(id)?;
        let (directory, name) = self.parent(path)?;
        directory.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    pub(super) fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path).ok_or(io::ErrorKind::NotFound)?;
        let names: Vec<_> = self.directory(id)?.entries.keys().cloned().collect();
        for name in names {
            let inner = path.join(name);
            match self.remove_file(&inner) {
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                    self.remove_directory(&inner)?;
                }
                outcome => outcome?,
            }
        }
        let (directory, name) = self.parent(path)?;
        directory.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    pub(super) fn lose_power(&mut self, rng: &mut SeededRng) {
        let survival = Survival::draw(rng);
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.lose_power(survival, rng),
                Node::Directory(directory) => directory.lose_power(survival, rng),
            }
        }
        self.drop_nameless();
    }

    fn drop_nameless(&mut self) {
        let named = self.nodes.values().filter_map(|node| match node {
            Node::Directory(directory) => Some(directory.entries.values().copied()),
            Node::File(_) => None,
        });
        let named: std::collections::BTreeSet<_> = named.flatten().chain([ROOT]).collect();
        self.nodes.retain(|id, _| named.contains(id));
    }

    fn add(&mut self, node: Node) -> u64 {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        id
    }

    fn directory(&mut self, id: u64) -> io::Result<&mut Directory> {
        match self.nodes.get_mut(&id) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn parent<'a>(&mut self, path: &'a Path) -> io::Result<(&mut Directory, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        let id = self.find(parent).ok_or(io::ErrorKind::NotFound)?;
        Ok((self.directory(id)?, name))
    }
}

fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            None
        }
    })
}

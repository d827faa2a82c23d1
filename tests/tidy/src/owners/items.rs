//! Types, methods and functions that the product declares, as far as the rules of owners need them.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "Rust has many forms of expressions and items; the rules need a few"
)]

use std::collections::{BTreeMap, BTreeSet};

use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, ItemStruct, Visibility};

use crate::{SourceFile, source::SHARED_SHELLS};

/// Packages whose code is the product.
const PRODUCT: [&str; 6] =
    ["proto", "proto/cli", "proto/http", "carousel", "receiver", "dm-bridge"];

/// The package that the others depend on.
const LIBRARY: &str = "proto";

/// Derived traits of the structs whose fields clap or prost reads.
const FOREIGN_DERIVES: [&str; 4] = ["Args", "Parser", "Subcommand", "Message"];

/// Something with the file that declares it.
type InFile<T> = (usize, T);

/// A type as it is written: the last name of its path and its arguments; references are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Name without path, or `(` of a tuple.
    pub name: String,
    /// The module in front of the name, if one is written.
    pub module: String,
    /// Generic arguments, or the parts of a tuple, array or slice.
    pub args: Vec<Self>,
    /// The file in which it is written.
    pub file: usize,
}

impl Type {
    /// Returns a type without a module.
    #[must_use]
    pub fn new(name: &str, args: Vec<Self>, file: usize) -> Self {
        Self { name: name.to_owned(), module: String::new(), args, file }
    }

    /// Returns the type with `Self` replaced.
    #[must_use]
    pub fn instead_of_self(&self, own: &Self) -> Self {
        if self.name == "Self" {
            return own.clone();
        }
        let args = self.args.iter().map(|arg| arg.instead_of_self(own)).collect();
        Self { args, ..self.clone() }
    }
}

/// A struct with named fields.
#[derive(Debug, Clone)]
pub struct Struct {
    /// Name.
    pub name: String,
    /// The file that declares it.
    pub file: usize,
    /// Line of the name.
    pub line: usize,
    /// Its fields, in order.
    pub fields: Vec<(String, Type)>,
    /// Set when clap or prost derives from its fields.
    pub is_derived: bool,
    /// Fields that other modules see.
    pub open_fields: usize,
    /// Fields that everybody sees.
    pub public_fields: usize,
}

/// An inherent `impl` of a type.
#[derive(Debug, Clone)]
pub struct Impl {
    /// The type, as the `impl` names it.
    pub of: Type,
    /// Line.
    pub line: usize,
    /// Set when a function in it has a receiver.
    pub has_methods: bool,
}

/// A parsed product file.
#[derive(Debug)]
pub struct File {
    /// From the top of the repository.
    pub path: String,
    /// The package.
    pub package: String,
    /// Its items.
    pub syntax: syn::File,
    /// Names that its `use` lines bring in, with their paths.
    pub uses: BTreeMap<String, Vec<String>>,
}

/// The declarations of all product files.
#[derive(Debug, Default)]
pub struct Items {
    /// Files.
    pub files: Vec<File>,
    /// Structs.
    pub structs: Vec<Struct>,
    /// Inherent `impl`s.
    pub impls: Vec<Impl>,
    /// Files that declare a struct, enum or union of this name.
    pub declared: BTreeMap<String, BTreeSet<usize>>,
    /// Structs by name.
    by_name: BTreeMap<String, Vec<usize>>,
    /// Return types of methods and constructors, by type and name.
    returns: BTreeMap<(String, String), Vec<InFile<Type>>>,
    /// Return types of free functions.
    functions: BTreeMap<String, Vec<InFile<Type>>>,
    /// The types that a variant of an enum holds, by enum and variant.
    variants: BTreeMap<(String, String), Vec<InFile<Vec<Type>>>>,
}

impl Items {
    /// Parses the product files.
    ///
    /// # Errors
    ///
    /// When a file is not valid Rust.
    pub fn of(sources: &[SourceFile]) -> anyhow::Result<Self> {
        let mut items = Self::default();
        let product = sources
            .iter()
            .filter(|file| !file.product.is_empty() && PRODUCT.contains(&file.package()));
        for source in product {
            let syntax = syn::parse_file(&source.text)
                .map_err(|error| anyhow::anyhow!("{}: {error}", source.path))?;
            let (path, package) = (source.path.clone(), source.package().to_owned());
            items.files.push(File { path, package, syntax, uses: BTreeMap::new() });
        }
        for file in 0..items.files.len() {
            let Some(parsed) = items.files.get(file) else { continue };
            let declarations = parsed.syntax.items.clone();
            items.add_all(file, &declarations);
        }
        Ok(items)
    }

    /// Returns the struct of a type as the file sees that wrote it, if it is one of ours.
    #[must_use]
    pub fn struct_of(&self, found: &Type) -> Option<usize> {
        let candidates = self.by_name.get(&found.name)?;
        let home = |index: &usize| self.structs.get(*index).map(|found| found.file);
        self.nearest(found, candidates, home).copied()
    }

    /// Returns the inherent `impl`s of a struct.
    pub fn impls_of<'a>(&'a self, of: &'a Struct) -> impl Iterator<Item = &'a Impl> {
        let is_same = |index: usize| {
            let found = self.structs.get(index);
            found.is_some_and(|found| found.file == of.file && found.name == of.name)
        };
        self.impls.iter().filter(move |block| {
            block.of.name == of.name && self.struct_of(&block.of).is_some_and(is_same)
        })
    }

    /// Returns the return type of a method or constructor of a type.
    #[must_use]
    pub fn returned(&self, of: &Type, method: &str) -> Option<Type> {
        let found = self.returns.get(&(of.name.clone(), method.to_owned()))?;
        let nearest = self.nearest(of, found, |(file, _)| Some(*file));
        nearest.map(|(_, kind)| kind.instead_of_self(of))
    }

    /// Returns the return type of a free function that the file calls.
    #[must_use]
    pub fn function(&self, file: usize, name: &str) -> Option<Type> {
        let found = self.functions.get(name)?;
        let called = Type::new(name, Vec::new(), file);
        self.nearest(&called, found, |(file, _)| Some(*file)).map(|(_, kind)| kind.clone())
    }

    /// Returns the types that a variant holds.
    #[must_use]
    pub fn variant(&self, file: usize, of: &str, variant: &str) -> Option<Vec<Type>> {
        let found = self.variants.get(&(of.to_owned(), variant.to_owned()))?;
        let of = Type::new(of, Vec::new(), file);
        self.nearest(&of, found, |(file, _)| Some(*file)).map(|(_, kinds)| kinds.clone())
    }

    /// Returns the declaration that a name means where it is written: that of the module in front
    /// of it, of the same file, the imported one, that of the same package, the only one there is.
    fn nearest<'a, T>(
        &self,
        written: &Type,
        candidates: &'a [T],
        home: impl Fn(&T) -> Option<usize>,
    ) -> Option<&'a T> {
        let (name, file) = (written.name.as_str(), written.file);
        if !written.module.is_empty() {
            let is_there = |candidate: &&T| {
                let found = home(candidate).and_then(|index| self.files.get(index));
                found.is_some_and(|found| found.path.ends_with(&format!("/{}.rs", written.module)))
            };
            if let Some(found) = candidates.iter().find(is_there) {
                return Some(found);
            }
        }
        if let Some(same) = candidates.iter().find(|candidate| home(candidate) == Some(file)) {
            return Some(same);
        }
        let here = self.files.get(file)?;
        let of_file = |candidate: &T| home(candidate).and_then(|index| self.files.get(index));
        if let Some(path) = here.uses.get(name) {
            let module = path.iter().rev().nth(1).map_or("", String::as_str);
            let fits = |candidate: &&T| {
                of_file(candidate).is_some_and(|found| {
                    let stem = found.path.rsplit('/').next().unwrap_or_default();
                    let folder = found.path.rsplit('/').nth(1).unwrap_or_default();
                    let crate_name = path.first().map_or("", String::as_str);
                    let foreign = ["proto", "carousel", "receiver", "dm_bridge"];
                    let shared = SHARED_SHELLS.iter().find(|(_, name)| *name == crate_name);
                    let package = if let Some((folder, _)) = shared {
                        (*folder).to_owned()
                    } else if foreign.contains(&crate_name) {
                        crate_name.replace('_', "-")
                    } else {
                        here.package.clone()
                    };
                    found.package == package && (stem == format!("{module}.rs") || folder == module)
                })
            };
            if let Some(imported) = candidates.iter().find(fits) {
                return Some(imported);
            }
        }
        let of_package = |package: &str| {
            let mut found = candidates
                .iter()
                .filter(|candidate| of_file(candidate).is_some_and(|file| file.package == package));
            match (found.next(), found.next()) {
                (Some(only), None) => Some(only),
                _ => None,
            }
        };
        of_package(&here.package).or_else(|| of_package(LIBRARY))
    }

    fn add_all(&mut self, file: usize, items: &[Item]) {
        for item in items {
            self.add(file, item);
        }
    }

    fn add(&mut self, file: usize, item: &Item) {
        match item {
            Item::Mod(module) if !is_test(&module.attrs) => {
                if let Some((_, items)) = &module.content {
                    self.add_all(file, items);
                }
            }
            Item::Use(import) => {
                if let Some(found) = self.files.get_mut(file) {
                    add_uses(&mut Vec::new(), &import.tree, &mut found.uses);
                }
            }
            Item::Struct(declared) if !is_test(&declared.attrs) => self.add_struct(file, declared),
            Item::Enum(declared) if !is_test(&declared.attrs) => {
                let name = declared.ident.to_string();
                self.declared.entry(name.clone()).or_default().insert(file);
                for variant in &declared.variants {
                    let kinds = variant.fields.iter().map(|field| type_of(file, &field.ty));
                    let key = (name.clone(), variant.ident.to_string());
                    self.variants.entry(key).or_default().push((file, kinds.collect()));
                }
            }
            Item::Macro(call) => {
                // `words!` and the like declare the types that they name.
                for token in call.mac.tokens.to_string().split_whitespace() {
                    let is_type = token.starts_with(|c: char| c.is_ascii_uppercase());
                    if is_type {
                        self.declared.entry(token.to_owned()).or_default().insert(file);
                    }
                }
            }
            Item::Fn(function) if !is_test(&function.attrs) => {
                if let syn::ReturnType::Type(_, kind) = &function.sig.output {
                    let entry = self.functions.entry(function.sig.ident.to_string()).or_default();
                    entry.push((file, type_of(file, kind)));
                }
            }
            Item::Impl(block) if !is_test(&block.attrs) => self.add_impl(file, block),
            Item::Trait(declared) => {
                for item in &declared.items {
                    if let syn::TraitItem::Fn(function) = item {
                        self.add_return(file, &declared.ident.to_string(), &function.sig);
                    }
                }
            }
            _ => {}
        }
    }

    fn add_struct(&mut self, file: usize, declared: &ItemStruct) {
        let name = declared.ident.to_string();
        self.declared.entry(name.clone()).or_default().insert(file);
        let Fields::Named(named) = &declared.fields else { return };
        let is_open = |field: &&syn::Field| !matches!(field.vis, Visibility::Inherited);
        let is_public = |field: &&syn::Field| matches!(field.vis, Visibility::Public(_));
        let fields = named.named.iter().filter_map(|field| {
            Some((field.ident.as_ref()?.to_string(), type_of(file, &field.ty)))
        });
        self.by_name.entry(name.clone()).or_default().push(self.structs.len());
        self.structs.push(Struct {
            name,
            file,
            line: declared.ident.span().start().line,
            fields: fields.collect(),
            is_derived: derives(&declared.attrs),
            open_fields: named.named.iter().filter(is_open).count(),
            public_fields: named.named.iter().filter(is_public).count(),
        });
    }

    fn add_impl(&mut self, file: usize, block: &ItemImpl) {
        let of = type_of(file, &block.self_ty);
        let mut has_methods = false;
        for item in &block.items {
            if let ImplItem::Fn(function) = item {
                has_methods |= function.sig.receiver().is_some() && !is_test(&function.attrs);
                self.add_return(file, &of.name, &function.sig);
            }
        }
        if block.trait_.is_none() {
            let line = block.impl_token.span.start().line;
            self.impls.push(Impl { of, line, has_methods });
        }
    }

    fn add_return(&mut self, file: usize, of: &str, signature: &syn::Signature) {
        if let syn::ReturnType::Type(_, kind) = &signature.output {
            let key = (of.to_owned(), signature.ident.to_string());
            self.returns.entry(key).or_default().push((file, type_of(file, kind)));
        }
    }
}

/// Returns whether an item is built for tests alone.
#[must_use]
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let tokens = list.tokens.to_string();
        attribute.path().is_ident("cfg") && !tokens.starts_with("not") && tokens.contains("test")
    })
}

fn derives(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("derive")).any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let tokens = list.tokens.to_string();
        let mut names = tokens.split(|c: char| !c.is_alphanumeric());
        names.any(|name| FOREIGN_DERIVES.contains(&name))
    })
}

/// Returns the type as the rules see it.
#[must_use]
pub fn type_of(file: usize, kind: &syn::Type) -> Type {
    let named = |name: &str, args| Type::new(name, args, file);
    match kind {
        syn::Type::Reference(inner) => type_of(file, &inner.elem),
        syn::Type::Paren(inner) => type_of(file, &inner.elem),
        syn::Type::Group(inner) => type_of(file, &inner.elem),
        syn::Type::Array(inner) => named("[", vec![type_of(file, &inner.elem)]),
        syn::Type::Slice(inner) => named("[", vec![type_of(file, &inner.elem)]),
        syn::Type::Tuple(parts) => {
            named("(", parts.elems.iter().map(|part| type_of(file, part)).collect())
        }
        syn::Type::Path(path) => path_type(file, &path.path),
        syn::Type::ImplTrait(bounds) => bounded(file, &bounds.bounds),
        syn::Type::TraitObject(bounds) => bounded(file, &bounds.bounds),
        _ => named("", Vec::new()),
    }
}

fn bounded<'a>(file: usize, bounds: impl IntoIterator<Item = &'a syn::TypeParamBound>) -> Type {
    let bound = bounds.into_iter().find_map(|bound| match bound {
        syn::TypeParamBound::Trait(bound) => Some(path_type(file, &bound.path)),
        _ => None,
    });
    bound.unwrap_or(Type::new("", Vec::new(), file))
}

fn path_type(file: usize, path: &syn::Path) -> Type {
    let Some(last) = path.segments.last() else {
        return Type::new("", Vec::new(), file);
    };
    let args = match &last.arguments {
        syn::PathArguments::AngleBracketed(args) => args
            .args
            .iter()
            .filter_map(|arg| match arg {
                syn::GenericArgument::Type(kind) => Some(type_of(file, kind)),
                syn::GenericArgument::AssocType(named) => Some(type_of(file, &named.ty)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let module = path.segments.iter().rev().nth(1).map(|module| module.ident.to_string());
    let module = module.unwrap_or_default();
    Type { name: last.ident.to_string(), module, args, file }
}

fn add_uses(
    prefix: &mut Vec<String>,
    tree: &syn::UseTree,
    uses: &mut BTreeMap<String, Vec<String>>,
) {
    match tree {
        syn::UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            add_uses(prefix, &path.tree, uses);
            prefix.pop();
        }
        syn::UseTree::Name(name) => {
            let mut path = prefix.clone();
            path.push(name.ident.to_string());
            uses.insert(name.ident.to_string(), path);
        }
        syn::UseTree::Rename(name) => {
            let mut path = prefix.clone();
            path.push(name.ident.to_string());
            uses.insert(name.rename.to_string(), path);
        }
        syn::UseTree::Group(group) => {
            group.items.iter().for_each(|tree| add_uses(prefix, tree, uses));
        }
        syn::UseTree::Glob(_) => {}
    }
}

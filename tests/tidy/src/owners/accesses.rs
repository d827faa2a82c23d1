//! Accesses to fields, with the struct that each belongs to.
//!
//! Types are followed as far as they are written: parameters, `let` with a type, constructors,
//! return types of our functions, fields, patterns. Of an expression whose type is not found, the
//! field counts for each struct that could be meant.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "Rust has many forms of expressions and items; the rules need a few"
)]

use std::collections::BTreeMap;

use syn::{
    BinOp, Expr, Member, Pat,
    visit::{self, Visit},
};

use super::items::{Items, Type, is_test, type_of};

/// Types that stand for what they hold.
const WRAPPERS: [&str; 25] = [
    "Verified",
    "Option",
    "Result",
    "Box",
    "Arc",
    "Rc",
    "Vec",
    "VecDeque",
    "BTreeMap",
    "BTreeSet",
    "HashMap",
    "HashSet",
    "Mutex",
    "MutexGuard",
    "RwLock",
    "RefCell",
    "Cell",
    "Cow",
    "Iter",
    "IterMut",
    "[",
    "Iterator",
    "IntoIterator",
    "Peekable",
    "Future",
];

/// Methods of wrappers that return the wrapper, or what it holds.
const PEELING: [&str; 52] = [
    "as_ref",
    "as_mut",
    "as_deref",
    "as_deref_mut",
    "unwrap",
    "unwrap_or",
    "unwrap_or_else",
    "unwrap_or_default",
    "expect",
    "ok",
    "ok_or",
    "ok_or_else",
    "clone",
    "cloned",
    "copied",
    "iter",
    "iter_mut",
    "into_iter",
    "get",
    "get_mut",
    "first",
    "last",
    "first_mut",
    "last_mut",
    "borrow",
    "borrow_mut",
    "lock",
    "read",
    "write",
    "take",
    "replace",
    "values",
    "values_mut",
    "next",
    "filter",
    "find",
    "rev",
    "skip",
    "peekable",
    "peek",
    "entry",
    "or_default",
    "or_insert",
    "or_insert_with",
    "front",
    "back",
    "front_mut",
    "back_mut",
    "pop",
    "pop_front",
    "pop_back",
    "remove",
];

/// Methods of maps that return a value of the map.
const OF_MAPS: [&str; 7] =
    ["entry", "get", "get_mut", "into_values", "remove", "values", "values_mut"];

/// Methods of a field's type that change it.
const CHANGING: [&str; 34] = [
    "append",
    "as_deref_mut",
    "as_mut",
    "back_mut",
    "clear",
    "clone_from",
    "dedup",
    "drain",
    "entry",
    "extend",
    "extend_from_slice",
    "first_mut",
    "front_mut",
    "get_mut",
    "get_or_insert_with",
    "insert",
    "iter_mut",
    "last_mut",
    "pop",
    "pop_back",
    "pop_first",
    "pop_front",
    "push",
    "push_back",
    "push_front",
    "push_str",
    "remove",
    "replace",
    "resize",
    "retain",
    "sort",
    "take",
    "truncate",
    "values_mut",
];

/// An access to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The struct; `None` when several could be meant.
    pub of: Option<usize>,
    /// The field.
    pub field: String,
    /// Line, from 1.
    pub line: usize,
    /// Set when the field of a value that exists is changed.
    pub is_write: bool,
}

/// Returns the accesses of a file's product code.
#[must_use]
pub fn accesses(items: &Items, file: usize) -> Vec<Access> {
    let mut walk = Walk {
        items,
        file,
        scopes: vec![BTreeMap::new()],
        self_type: None,
        is_write: false,
        found: Vec::new(),
    };
    if let Some(parsed) = items.files.get(file) {
        walk.visit_file(&parsed.syntax);
    }
    walk.found
}

struct Walk<'a> {
    items: &'a Items,
    file: usize,
    scopes: Vec<BTreeMap<String, Option<Type>>>,
    self_type: Option<Type>,
    /// Set while a place that is changed is walked.
    is_write: bool,
    found: Vec<Access>,
}

/// Returns whether an operator changes its left side.
fn assigns(operator: BinOp) -> bool {
    matches!(
        operator,
        BinOp::AddAssign(_)
            | BinOp::SubAssign(_)
            | BinOp::MulAssign(_)
            | BinOp::DivAssign(_)
            | BinOp::BitOrAssign(_)
            | BinOp::BitAndAssign(_)
            | BinOp::ShlAssign(_)
            | BinOp::ShrAssign(_)
    )
}

/// Returns the type that a wrapper holds, at the bottom.
fn core(kind: &Type) -> Type {
    let mut kind = kind.clone();
    while WRAPPERS.contains(&kind.name.as_str()) {
        let inner = if matches!(kind.name.as_str(), "BTreeMap" | "HashMap") {
            kind.args.last()
        } else {
            kind.args.first()
        };
        let Some(inner) = inner else { break };
        kind = inner.clone();
    }
    kind
}

impl Walk<'_> {
    fn record(&mut self, of: Option<usize>, field: String, line: usize) {
        self.found.push(Access { of, field, line, is_write: self.is_write });
    }

    /// Walks an expression that is changed when `is_write` is set; what stands inside it is not.
    fn place(&mut self, expression: &Expr, is_write: bool) -> Option<Type> {
        let before = std::mem::replace(&mut self.is_write, is_write);
        let kind = self.expression(expression);
        self.is_write = before;
        kind
    }

    fn bind(&mut self, name: String, kind: Option<Type>) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, kind);
        }
    }

    fn lookup(&self, name: &str) -> Option<Type> {
        if name == "self" {
            return self.self_type.clone();
        }
        self.scopes.iter().rev().find_map(|scope| scope.get(name))?.clone()
    }

    fn written(&self, kind: &syn::Type) -> Type {
        self.instead_of_self(&type_of(self.file, kind))
    }

    fn instead_of_self(&self, found: &Type) -> Type {
        self.self_type.as_ref().map_or_else(|| found.clone(), |own| found.instead_of_self(own))
    }

    /// Binds the names of a pattern, and counts the fields that it names.
    fn pattern(&mut self, pattern: &Pat, kind: Option<&Type>) {
        match pattern {
            Pat::Ident(name) => {
                self.bind(name.ident.to_string(), kind.cloned());
                if let Some((_, inner)) = &name.subpat {
                    self.pattern(inner, kind);
                }
            }
            Pat::Reference(inner) => self.pattern(&inner.pat, kind),
            Pat::Paren(inner) => self.pattern(&inner.pat, kind),
            Pat::Type(typed) => {
                let kind = self.written(&typed.ty);
                self.pattern(&typed.pat, Some(&kind));
            }
            Pat::Tuple(tuple) => {
                let parts = kind.map(core).filter(|kind| kind.name == "(");
                for (index, part) in tuple.elems.iter().enumerate() {
                    let kind = parts.as_ref().and_then(|kind| kind.args.get(index));
                    self.pattern(part, kind);
                }
            }
            Pat::Slice(slice) => {
                let inner = kind.map(core);
                slice.elems.iter().for_each(|part| self.pattern(part, inner.as_ref()));
            }
            Pat::Or(or) => or.cases.iter().for_each(|case| self.pattern(case, kind)),
            Pat::TupleStruct(variant) => {
                let kinds = self.variant_types(&variant.path, kind);
                for (index, part) in variant.elems.iter().enumerate() {
                    self.pattern(part, kinds.get(index));
                }
            }
            Pat::Struct(named) => {
                let of = self.path_type(&named.path);
                let found = self.items.struct_of(&of);
                for field in &named.fields {
                    let Member::Named(name) = &field.member else { continue };
                    let kind = found.and_then(|index| {
                        let line = name.span().start().line;
                        self.record(Some(index), name.to_string(), line);
                        self.field_type(index, &name.to_string())
                    });
                    self.pattern(&field.pat, kind.as_ref());
                }
            }
            _ => {}
        }
    }

    fn variant_types(&self, path: &syn::Path, kind: Option<&Type>) -> Vec<Type> {
        let last = path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        if let ("Some" | "Ok", Some(kind)) = (last.as_str(), kind) {
            return vec![if WRAPPERS.contains(&kind.name.as_str()) {
                kind.args.first().cloned().unwrap_or_else(|| kind.clone())
            } else {
                kind.clone()
            }];
        }
        if let ("Err", Some(kind)) = (last.as_str(), kind) {
            return kind.args.get(1).cloned().into_iter().collect();
        }
        let of = path.segments.iter().rev().nth(1).map(|of| of.ident.to_string());
        let of = match of.as_deref() {
            Some("Self") => self.self_type.as_ref().map(|kind| kind.name.clone()),
            _ => of,
        };
        let of = of.or_else(|| kind.map(|kind| core(kind).name)).unwrap_or_default();
        self.items.variant(self.file, &of, &last).unwrap_or_default()
    }

    /// Returns the type of a struct literal or pattern; none for a variant of an enum.
    fn path_type(&self, path: &syn::Path) -> Type {
        let of_enum = path.segments.iter().rev().nth(1).is_some_and(|segment| {
            segment.ident.to_string().starts_with(|first: char| first.is_ascii_uppercase())
        });
        if of_enum {
            return Type::new("", Vec::new(), self.file);
        }
        let name = path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        self.instead_of_self(&Type::new(&name, Vec::new(), self.file))
    }

    fn field_type(&self, index: usize, field: &str) -> Option<Type> {
        let of = self.items.structs.get(index)?;
        of.fields.iter().find(|(name, _)| name == field).map(|(_, kind)| kind.clone())
    }

    fn scoped<T>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.scopes.push(BTreeMap::new());
        let result = inside(self);
        self.scopes.pop();
        result
    }

    /// Walks an expression and returns its type, if it is found.
    fn expression(&mut self, expression: &Expr) -> Option<Type> {
        match expression {
            Expr::Path(path) => self.lookup(&path.path.get_ident()?.to_string()),
            Expr::Paren(inner) => self.expression(&inner.expr),
            Expr::Group(inner) => self.expression(&inner.expr),
            Expr::Unary(inner) => self.expression(&inner.expr),
            Expr::Await(inner) => self.expression(&inner.base),
            Expr::Try(inner) => {
                let kind = self.expression(&inner.expr)?;
                let is_wrapper = matches!(kind.name.as_str(), "Option" | "Result");
                if is_wrapper { kind.args.first().cloned() } else { Some(kind) }
            }
            Expr::Index(index) => {
                self.place(&index.index, false);
                self.expression(&index.expr).map(|kind| core(&kind))
            }
            Expr::Cast(cast) => {
                self.expression(&cast.expr);
                Some(self.written(&cast.ty))
            }
            Expr::Field(access) => self.field(access),
            Expr::Struct(literal) => Some(self.literal(literal)),
            Expr::Call(call) => self.call(call),
            Expr::MethodCall(call) => self.method_call(call),
            Expr::Closure(closure) => self.closure(closure, None),
            Expr::Tuple(tuple) => {
                let part = |part| self.expression(part).unwrap_or_else(|| Type::new("", vec![], 0));
                let args = tuple.elems.iter().map(part).collect();
                Some(Type::new("(", args, self.file))
            }
            Expr::Macro(call) => {
                self.macro_arguments(&call.mac);
                None
            }
            Expr::Reference(_) | Expr::Assign(_) | Expr::Binary(_) => self.change(expression),
            other => self.control_flow(other),
        }
    }

    /// Walks an expression that may change a place.
    fn change(&mut self, expression: &Expr) -> Option<Type> {
        match expression {
            Expr::Reference(inner) => {
                let is_write = self.is_write || inner.mutability.is_some();
                self.place(&inner.expr, is_write)
            }
            Expr::Assign(assigned) => {
                self.expression(&assigned.right);
                self.place(&assigned.left, true);
                None
            }
            Expr::Binary(binary) => {
                self.expression(&binary.right);
                self.place(&binary.left, assigns(binary.op));
                None
            }
            _ => None,
        }
    }

    /// Walks blocks, conditions, loops and `match`, each in a scope of its own.
    fn control_flow(&mut self, expression: &Expr) -> Option<Type> {
        match expression {
            Expr::Block(block) => self.scoped(|walk| walk.block(&block.block)),
            Expr::If(condition) => self.scoped(|walk| {
                walk.expression(&condition.cond);
                let kind = walk.scoped(|walk| walk.block(&condition.then_branch));
                if let Some((_, otherwise)) = &condition.else_branch {
                    walk.expression(otherwise);
                }
                kind
            }),
            Expr::Let(condition) => {
                let kind = self.expression(&condition.expr);
                self.pattern(&condition.pat, kind.as_ref());
                None
            }
            Expr::While(body) => self.scoped(|walk| {
                walk.expression(&body.cond);
                walk.block(&body.body)
            }),
            Expr::ForLoop(body) => self.scoped(|walk| {
                let kind = walk.expression(&body.expr).map(|kind| element(&kind));
                walk.pattern(&body.pat, kind.as_ref());
                walk.block(&body.body)
            }),
            Expr::Match(matched) => {
                let kind = self.expression(&matched.expr);
                let mut result = None;
                for arm in &matched.arms {
                    let found = self.scoped(|walk| {
                        walk.pattern(&arm.pat, kind.as_ref());
                        if let Some((_, guard)) = &arm.guard {
                            walk.expression(guard);
                        }
                        walk.expression(&arm.body)
                    });
                    result = result.or(found);
                }
                result
            }
            other => {
                visit::visit_expr(self, other);
                None
            }
        }
    }

    fn field(&mut self, access: &syn::ExprField) -> Option<Type> {
        let base = self.expression(&access.base);
        match &access.member {
            Member::Unnamed(index) => {
                let tuple = core(&base?);
                let position = usize::try_from(index.index).ok()?;
                (tuple.name == "(").then(|| tuple.args.get(position).cloned())?
            }
            Member::Named(name) => {
                let line = name.span().start().line;
                let name = name.to_string();
                let known = base.map(|base| core(&base)).filter(|base| !base.name.is_empty());
                let found = known.as_ref().and_then(|base| self.items.struct_of(base));
                match found {
                    Some(index) if self.field_type(index, &name).is_some() => {
                        self.record(Some(index), name.clone(), line);
                        self.field_type(index, &name)
                    }
                    _ => {
                        self.record(None, name, line);
                        None
                    }
                }
            }
        }
    }

    fn literal(&mut self, literal: &syn::ExprStruct) -> Type {
        let of = self.path_type(&literal.path);
        let found = self.items.struct_of(&of);
        for field in &literal.fields {
            if let (Some(index), Member::Named(name)) = (found, &field.member) {
                let line = name.span().start().line;
                self.record(Some(index), name.to_string(), line);
            }
            self.expression(&field.expr);
        }
        if let Some(base) = &literal.rest {
            self.expression(base);
        }
        of
    }

    fn call(&mut self, call: &syn::ExprCall) -> Option<Type> {
        let mut first = None;
        for (index, argument) in call.args.iter().enumerate() {
            let kind = self.expression(argument);
            if index == 0 {
                first = kind;
            }
        }
        let Expr::Path(path) = &*call.func else {
            self.expression(&call.func);
            return None;
        };
        let name = path.path.segments.last()?.ident.to_string();
        let wrapped = |name: &str, args| Type::new(name, args, self.file);
        match name.as_str() {
            "Some" => return first.map(|kind| wrapped("Option", vec![kind])),
            "Ok" => return first.map(|kind| wrapped("Result", vec![kind])),
            _ => {}
        }
        let Some(of) = path.path.segments.iter().rev().nth(1) else {
            return self.items.function(self.file, &name);
        };
        let of = of.ident.to_string();
        let is_type = of.starts_with(|c: char| c.is_ascii_uppercase());
        if !is_type {
            return self.items.function(self.file, &name).or(match name.as_str() {
                "take" | "replace" | "swap" => first,
                _ => None,
            });
        }
        let of = self.instead_of_self(&Type::new(&of, Vec::new(), self.file));
        if WRAPPERS.contains(&of.name.as_str()) {
            return first;
        }
        let returned = self.items.returned(&of, &name);
        returned.or_else(|| (name == "default" || name == "new").then_some(of))
    }

    fn method_call(&mut self, call: &syn::ExprMethodCall) -> Option<Type> {
        let method = call.method.to_string();
        let is_write = self.is_write || CHANGING.contains(&method.as_str());
        let receiver = self.place(&call.receiver, is_write);
        let held = receiver
            .as_ref()
            .map(|kind| if call.method == "iter" { kind.clone() } else { element(kind) });
        let mut inner = None;
        for argument in &call.args {
            if let Expr::Closure(closure) = argument {
                inner = self.closure(closure, held.as_ref());
            } else {
                self.place(argument, false);
            }
        }
        let receiver = receiver?;
        let is_wrapper = WRAPPERS.contains(&receiver.name.as_str());
        let is_map = matches!(receiver.name.as_str(), "BTreeMap" | "HashMap");
        if is_map && OF_MAPS.contains(&method.as_str()) {
            let value = receiver.args.last()?.clone();
            return Some(Type::new("Option", vec![value], self.file));
        }
        if is_wrapper {
            return match method.as_str() {
                "map" | "and_then" | "filter_map" | "flat_map" | "find_map" | "map_or"
                | "map_or_else" => inner,
                name if PEELING.contains(&name) => Some(receiver),
                _ => self.items.returned(&core(&receiver), &method),
            };
        }
        self.items.returned(&receiver, &method).or_else(|| (method == "clone").then_some(receiver))
    }

    fn closure(&mut self, closure: &syn::ExprClosure, kind: Option<&Type>) -> Option<Type> {
        self.scoped(|walk| {
            let last = closure.inputs.last();
            for input in &closure.inputs {
                let is_last = last.is_some_and(|last| std::ptr::eq(last, input));
                walk.pattern(input, kind.filter(|_| is_last));
            }
            walk.place(&closure.body, false)
        })
    }

    fn block(&mut self, block: &syn::Block) -> Option<Type> {
        let mut kind = None;
        for statement in &block.stmts {
            kind = None;
            match statement {
                syn::Stmt::Local(local) => {
                    let mut found = None;
                    if let Some(init) = &local.init {
                        found = self.expression(&init.expr);
                        if let Some((_, otherwise)) = &init.diverge {
                            self.expression(otherwise);
                        }
                    }
                    self.pattern(&local.pat, found.as_ref());
                }
                syn::Stmt::Expr(expression, end) => {
                    let found = self.expression(expression);
                    kind = found.filter(|_| end.is_none());
                }
                syn::Stmt::Macro(call) => self.macro_arguments(&call.mac),
                syn::Stmt::Item(item) => self.visit_item(item),
            }
        }
        kind
    }

    /// Reads the arguments of a macro call as expressions, when they are such.
    fn macro_arguments(&mut self, call: &syn::Macro) {
        let parser = syn::punctuated::Punctuated::<Expr, syn::Token![,]>::parse_terminated;
        if let Ok(arguments) = call.parse_body_with(parser) {
            arguments.iter().for_each(|argument| drop(self.expression(argument)));
        }
    }

    fn function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        self.scoped(|walk| {
            for input in &signature.inputs {
                if let syn::FnArg::Typed(typed) = input {
                    let kind = walk.written(&typed.ty);
                    walk.pattern(&typed.pat, Some(&kind));
                }
            }
            walk.block(body);
        });
    }
}

/// Returns the type that a wrapper holds: what a closure or a loop over it gets.
fn element(kind: &Type) -> Type {
    match kind.name.as_str() {
        "BTreeMap" | "HashMap" => Type::new("(", kind.args.clone(), kind.file),
        name if WRAPPERS.contains(&name) => {
            kind.args.first().cloned().unwrap_or_else(|| kind.clone())
        }
        _ => kind.clone(),
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        if is_test(&block.attrs) {
            return;
        }
        let before = self.self_type.replace(type_of(self.file, &block.self_ty));
        visit::visit_item_impl(self, block);
        self.self_type = before;
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test(&function.attrs) {
            self.function(&function.sig, &function.block);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            self.function(&function.sig, &function.block);
        }
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        self.expression(expression);
    }
}

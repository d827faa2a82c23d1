//! Message to elements in DTD order, whatever the form.

use crate::dm::{
    code::Format,
    syncml::{
        Alert, Command, CommandId, Data, Exec, Group, Header, Item, Location, Manage, Message,
        MessageId, Meta, Results, Status,
    },
};

/// A code page of the SyncML document type.
///
/// # Source
///
/// OMA SyncML Representation Protocol 1.2, MetInf 1.2, DM DDF 1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dm) enum Page {
    /// The message.
    SyncMl,
    /// Elements inside Meta.
    MetInf,
    /// Serialised management trees.
    Ddf,
}

/// A form that elements are written in.
pub(in crate::dm) trait Form {
    /// The name of the format of octets in this form.
    const OCTETS_FORMAT: Format;
    /// The finished document.
    type Document;

    /// Begins an element with content.
    fn open(&mut self, page: Page, name: &'static str);
    /// Ends it.
    fn close(&mut self, name: &'static str);
    /// Writes an element without content.
    fn empty(&mut self, page: Page, name: &'static str);
    /// Writes text.
    fn text(&mut self, text: &str);
    /// Writes octets that need not be text.
    fn octets(&mut self, octets: &[u8]);
    /// Returns the document.
    fn finish(self) -> Self::Document;
}

/// The output of a form: a document, or only the count of its octets.
pub(in crate::dm) trait Sink: Default {
    fn put(&mut self, octets: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

impl Sink for usize {
    fn put(&mut self, octets: &[u8]) {
        *self += octets.len();
    }
}

/// The order of Format and Type in a Meta. Our readers accept both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetaOrder {
    /// The order of the DTD.
    #[default]
    FormatFirst,
    /// The order of the samples in the standards, for clients that expect no other.
    TypeFirst,
}

pub(in crate::dm) fn message<F: Form>(message: &Message, form: F, order: MetaOrder) -> F::Document {
    let mut out = Writer { form, order };
    out.element("SyncML", |out| {
        out.header(&message.header);
        out.element("SyncBody", |out| {
            message.commands.iter().for_each(|command| out.command(command));
            if message.is_final {
                out.empty("Final");
            }
        });
    });
    out.form.finish()
}

struct Writer<F> {
    form: F,
    order: MetaOrder,
}

impl<F: Form> Writer<F> {
    fn element(&mut self, name: &'static str, inside: impl FnOnce(&mut Self)) {
        self.form.open(Page::SyncMl, name);
        inside(self);
        self.form.close(name);
    }

    fn empty(&mut self, name: &'static str) {
        self.form.empty(Page::SyncMl, name);
    }

    fn leaf(&mut self, name: &'static str, text: &str) {
        self.element(name, |out| out.form.text(text));
    }

    fn optional(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.leaf(name, text);
        }
    }

    fn header(&mut self, header: &Header) {
        self.element("SyncHdr", |out| {
            out.leaf("VerDTD", "1.2");
            out.leaf("VerProto", "DM/1.2");
            out.leaf("SessionID", &header.session_id);
            out.leaf("MsgID", &header.message_id.to_string());
            out.location("Target", Some(&header.target));
            out.location("Source", Some(&header.source));
            out.optional("RespURI", header.respond_to.as_deref());
            if let Some(credential) = &header.credential {
                out.element("Cred", |out| {
                    out.meta(Some(&credential.meta));
                    out.leaf("Data", &credential.data);
                });
            }
            out.meta(header.meta.as_ref());
        });
    }

    fn command(&mut self, command: &Command) {
        let verb = command.verb();
        let is_readable = !matches!(command, Command::Rejected(_));
        // What was rejected is not sent.
        let Some(name) = verb.standard_name().filter(|_| is_readable) else { return };
        self.element(name, |out| {
            out.id(command.id());
            match command {
                Command::Status(status) => out.status(status),
                Command::Results(results) => out.results(results),
                Command::Alert(alert) => out.alert(alert),
                Command::Exec(exec) => out.exec(exec),
                Command::Get(manage)
                | Command::Add(manage)
                | Command::Replace(manage)
                | Command::Delete(manage)
                | Command::Copy(manage) => out.manage(manage),
                Command::Sequence(group) | Command::Atomic(group) => out.group(group),
                Command::Rejected(_) => {}
            }
        });
    }

    fn id(&mut self, id: CommandId) {
        self.leaf("CmdID", &id.to_string());
    }

    fn status(&mut self, status: &Status) {
        if status.message_ref != MessageId::ABSENT {
            self.leaf("MsgRef", &status.message_ref.to_string());
        }
        self.leaf("CmdRef", &status.command_ref.to_string());
        self.leaf("Cmd", status.verb.as_str());
        status.target_refs.iter().for_each(|target| self.leaf("TargetRef", target));
        status.source_refs.iter().for_each(|source| self.leaf("SourceRef", source));
        if let Some(challenge) = &status.challenge {
            self.element("Chal", |out| out.meta(Some(&challenge.meta)));
        }
        self.leaf("Data", &status.code.to_string());
        status.items.iter().for_each(|item| self.item(item));
    }

    fn results(&mut self, results: &Results) {
        if let Some(message) = results.message_ref {
            self.leaf("MsgRef", &message.to_string());
        }
        self.leaf("CmdRef", &results.command_ref.to_string());
        self.meta(results.meta.as_ref());
        results.items.iter().for_each(|item| self.item(item));
    }

    fn alert(&mut self, alert: &Alert) {
        self.leaf("Data", &alert.code.to_string());
        self.optional("Correlator", alert.correlator.as_ref().map(|it| it.0.as_str()));
        alert.items.iter().for_each(|item| self.item(item));
    }

    fn exec(&mut self, exec: &Exec) {
        self.meta(exec.meta.as_ref());
        self.optional("Correlator", exec.correlator.as_ref().map(|it| it.0.as_str()));
        self.item(&exec.item);
    }

    fn manage(&mut self, manage: &Manage) {
        self.meta(manage.meta.as_ref());
        manage.items.iter().for_each(|item| self.item(item));
    }

    fn group(&mut self, group: &Group) {
        self.meta(group.meta.as_ref());
        group.commands.iter().for_each(|command| self.command(command));
    }

    fn item(&mut self, item: &Item) {
        self.element("Item", |out| {
            out.location("Target", item.target.as_ref());
            out.location("Source", item.source.as_ref());
            match &item.data {
                None => out.meta(item.meta.as_ref()),
                Some(Data::Text(text)) => {
                    out.meta(item.meta.as_ref());
                    out.leaf("Data", text);
                }
                Some(Data::Octets(octets)) => {
                    let meta = item.meta.clone().unwrap_or_default();
                    out.meta(Some(&Meta { format: Some(F::OCTETS_FORMAT), ..meta }));
                    out.element("Data", |out| out.form.octets(octets));
                }
            }
            if item.more_data {
                out.empty("MoreData");
            }
        });
    }

    fn location(&mut self, name: &'static str, location: Option<&Location>) {
        let Some(location) = location else { return };
        self.element(name, |out| {
            out.leaf("LocURI", &location.uri);
            out.optional("LocName", location.name.as_deref());
        });
    }

    fn meta(&mut self, meta: Option<&Meta>) {
        let Some(meta) = meta else { return };
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        self.element("Meta", |out| {
            let format = ("Format", meta.format.as_ref().map(|format| format.as_word()));
            let kind = ("Type", meta.kind.as_deref());
            let pair = match out.order {
                MetaOrder::FormatFirst => [format, kind],
                MetaOrder::TypeFirst => [kind, format],
            };
            pair.into_iter().for_each(|(name, text)| out.metinf(name, text));
            out.metinf("Mark", meta.mark.as_deref());
            out.metinf("Size", number(meta.size).as_deref());
            out.metinf("NextNonce", meta.next_nonce.as_deref());
            out.metinf("MaxMsgSize", number(meta.max_message_size).as_deref());
            out.metinf("MaxObjSize", number(meta.max_object_size).as_deref());
        });
    }

    fn metinf(&mut self, name: &'static str, text: Option<&str>) {
        let Some(text) = text else { return };
        self.form.open(Page::MetInf, name);
        self.form.text(text);
        self.form.close(name);
    }
}

//! Rights of a server in access control lists.

proto::words! {
    /// A right of a server to a node.
    pub(in crate::dm) enum Right {
        /// To add a child.
        Add = "Add",
        /// To delete the node.
        Delete = "Delete",
        /// To execute it.
        Exec = "Exec",
        /// To read it.
        Get = "Get",
        /// To write it.
        Replace = "Replace",
    }
}

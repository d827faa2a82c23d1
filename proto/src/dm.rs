//! What the management session says: SyncML and FUMO.

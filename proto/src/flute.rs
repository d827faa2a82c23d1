//! What goes on air: LCT, ALC and the FDT.

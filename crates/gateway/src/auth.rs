//! Who is asking: SigV4 and bearer tokens.

//! Who asks, and how much they may: identities of consumers, and their limits in requests and tokens.

//! Live pages of a head or a server: what they show, and the hour of history behind them.

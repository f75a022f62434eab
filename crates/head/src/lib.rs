//! Many workers behind one address: finds them, knows how they are, and sends each request where it is best served.

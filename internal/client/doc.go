// Package client connects to an etcd-compatible cluster: it understands
// endpoints, keeps one gRPC connection that fails over between them, carries
// the auth token, retries what may be repeated, and keeps watches and leases
// alive over reconnects.
//
// The calls themselves are those of the generated stubs, which Client embeds;
// nothing is renamed on the way. Unary calls return the errors of
// etcd's rpctypes (`etcdserver: ...`) where the server sent one of those, and
// the context's own error when the caller's time ran out. Streams return what
// gRPC returned.
//
// The package leaves printing, flags and files to its users.
package client

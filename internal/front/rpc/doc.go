// Package rpc serves etcd's gRPC services on top of one member.
//
// A service checks a request's form, asks the member through a small interface
// declared beside it, fills the response header and translates errors to
// status codes (status.go). It owns no state of the store. What a request
// means is decided in core/kv and core/apply.
//
// The services know nothing of the transport: they register on any
// grpc.ServiceRegistrar.
package rpc

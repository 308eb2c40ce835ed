// Package concurrencypb is the wire contract of etcd's Lock and Election
// services: the messages of v3lockpb and v3electionpb, the descriptions of the
// two services, and clients for them.
//
// Etcd keeps these types in its server module, which this product does without,
// and a program may well link that module beside this one (to compare them, or
// to move from one to the other). Two files of the same name, or two messages,
// in protobuf's global registry make such a program panic when it starts. So
// the types here are ordinary structs whose descriptors are built in file.go
// and registered nowhere: on the wire and in JSON they are the same messages,
// and only a look-up by name in the global registry does not find them. The
// price is that an Any cannot hold them and gRPC reflection cannot list them;
// etcd serves neither.
package concurrencypb

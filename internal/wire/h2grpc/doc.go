// Package h2grpc is the gRPC server of a member: HTTP/2 connections and the
// calls on them.
//
// A Server takes services as generated code registers them
// (grpc.ServiceRegistrar) and connections from listeners, so that it can stand
// where a *grpc.Server stands. It promises what clients of gRPC rely on -
// all four forms of calls, metadata, deadlines, cancellation, statuses with
// details, compression, keepalive, orderly ends - with the texts of grpc-go
// where clients see them, and bounds on everything a client can make it hold
// (Limits). Requests that are not gRPC go to an ordinary http.Handler.
//
// It spends little per call: a connection has two goroutines, a call borrows
// one only while its handler runs and none if its service has declared it
// quick, answers are encoded where they are sent from, and those that become
// ready together leave in one write. DESIGN.md tells how.
//
// Who may connect, what a call may do and what it means are left to others.
package h2grpc

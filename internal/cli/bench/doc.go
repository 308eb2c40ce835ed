// Package bench is the benchmark command: it loads an etcd-compatible cluster
// and reports how long its answers took.
//
// Load comes in two ways. In the closed loop, --clients clients each send a
// request when the one before was answered; with --rate they also wait for
// their turn. A server that stalls then receives less load, and the stall shows
// up in few requests. In the open loop (--open-loop with --rate) requests have
// arrival times that no server can delay, and latency counts from the arrival,
// so a stall shows up in every request that would have come meanwhile.
//
// Latencies go into histograms of fixed size and 1% precision (latencies), so
// a run of any length needs the same memory. Requests are sent by
// internal/wire/h2client: with etcd's own client the generator would need
// several times the CPU of the server it is to measure.
package bench

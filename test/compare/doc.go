// Command compare runs two servers under the same loads, one after the other
// on this machine, and prints what each needed:
//
//	make compare PEER=/usr/bin/etcd
//
// Method. For every scenario and round each server starts in an empty
// directory on loopback, is filled, and is then loaded by bin/benchmark; the
// two take turns, so that both see the same drift of the machine. A number is
// the median of the rounds. CPU is the server's own time in user and kernel
// mode (/proc/<pid>/stat) while the load ran, divided by the requests that
// succeeded; memory is the peak of its resident set (VmHWM), which includes
// pages of the mapped database file.
//
// A scenario in which any request failed is reported as failed, not as fast.
package main

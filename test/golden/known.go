package main

// known lists, as scenario:n, the recorded behaviour we do not copy, and why.
// docs/compat.md tells users the same.
var known = map[string]string{
	"txn:29": "lease comparisons work instead of panicking",
	"txn:55": "lease comparisons work instead of panicking",
	"txn:51": "an unknown operator is an error instead of a panic",
	"txn:52": "an unknown operator is an error instead of a panic",

	"lease:6":  "protobuf output of lease commands is the whole answer",
	"lease:11": "protobuf output of lease commands is the whole answer",
	"lease:36": "protobuf output of lease commands is the whole answer",
	"lease:41": "protobuf output of lease commands is the whole answer",
	"lease:49": "protobuf output of lease commands is the whole answer",
	"lease:58": "protobuf output of lease commands is the whole answer",
	"lease:73": "protobuf output of lease commands is the whole answer",
	"lease:92": "protobuf output of lease revoke is supported",

	"maintenance:120": "how many keys fit under the quota depends on what has been flushed, and so does the revision",
	"maintenance:175": "the revision follows from the above",
	"maintenance:188": "the storage version follows a cancelled downgrade within seconds, not at once",

	"etcdutl:27": "hashkv leaves the snapshot alone, so it can still be restored",
	"etcdutl:76": "a data directory in use is an error instead of a panic",
	"etcdutl:77": "a data directory in use is an error instead of a panic",
}

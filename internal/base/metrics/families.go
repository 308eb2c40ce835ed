package metrics

import "github.com/prometheus/client_golang/prometheus"

// Bucket bounds, each named after its first and its growth. +Inf is implied.
var (
	fromMilli    = doubling(0.001, 14) // seconds, 1 ms to 8 s
	fromTenth    = doubling(0.1, 10)   // seconds, 0.1 s to 51 s
	defragTimes  = doubling(0.1, 13)
	backupTimes  = doubling(0.01, 17)
	hashTimes    = doubling(0.01, 15)
	fromTenMicro = doubling(0.0001, 20) // seconds, 0.1 ms to 52 s
	roundTrips   = doubling(0.0001, 16)
	ttls         = doubling(1, 24)
	pausesMs     = doubling(1, 13)
	indexPauseMs = doubling(0.5, 14)
	compactMs    = doubling(100, 14)
)

func doubling(first float64, n int) []float64 { return prometheus.ExponentialBuckets(first, 2, n) }

// Disk measures the WAL and the backend file.
type Disk struct {
	WALFsync, WALWrite                                prometheus.Histogram // seconds
	WALWriteBytes                                     prometheus.Gauge
	BackendCommit, BackendSnapshot, BackendDefrag     prometheus.Histogram // seconds
	CommitRebalance, CommitSpill, CommitWrite         prometheus.Histogram // seconds
	DefragInflight                                    prometheus.Gauge
	DBSize, DBSizeInUse, DBOpenReadTxns, BackendQuota prometheus.Gauge
}

// Snap measures snapshot files.
type Snap struct {
	SaveTotal, SaveMarshalling, Fsync, DBFsync, DBSaveTotal prometheus.Histogram // seconds
}

// MVCC measures the key space.
type MVCC struct {
	Puts, Deletes, Ranges, Txns, CompactedKeys, Events prometheus.Counter
	Hash, HashRev                                      prometheus.Histogram // seconds
	Keys, CurrentRev, CompactRev, LastCompaction       prometheus.Gauge     // LastCompaction: Unix seconds
	TotalPutSize                                       prometheus.Gauge     // bytes
	CompactionPause, CompactionTotal, IndexPause       prometheus.Histogram // milliseconds
}

// Watch measures watchers and the streams they are on.
type Watch struct {
	Streams, Watchers, SlowWatchers, PendingEvents prometheus.Gauge
	SendLoop, SendLoopPerEvent                     prometheus.Histogram // seconds
	SendLoopControl, SendLoopProgress              prometheus.Histogram // seconds
}

// Lease measures leases.
type Lease struct {
	Granted, Renewed, Revoked, Expired prometheus.Counter
	TTL                                prometheus.Histogram // seconds
}

// Auth measures the auth store.
type Auth struct {
	Revision prometheus.Gauge
}

// Server measures the member: consensus, apply, requests.
type Server struct {
	HasLeader, IsLeader, IsLearner                                   prometheus.Gauge
	ID, Version, ClusterVersion, GoVersion, FeatureEnabled           *prometheus.GaugeVec
	Alarms                                                           *prometheus.GaugeVec // server_id, alarm_type
	LeaderChanges, HeartbeatSendFailures, SlowApplies                prometheus.Counter
	ProposalsCommitted, ProposalsApplied, ProposalsPending           prometheus.Gauge
	ProposalsFailed, SlowReadIndexes, ReadIndexesFailed              prometheus.Counter
	SnapshotApplyInProgress                                          prometheus.Gauge
	LearnerPromoteSuccesses                                          prometheus.Counter
	LearnerPromoteFailures, ClientRequests                           *prometheus.CounterVec
	ApplyDuration /* version, op, success */, RangeDuration, Request *prometheus.HistogramVec
}

// Network measures traffic with peers and clients.
type Network struct {
	ActivePeers, KnownPeers                         *prometheus.GaugeVec   // Local, Remote
	DisconnectedPeers                               *prometheus.CounterVec // Local, Remote
	PeerSentBytes, PeerSentFailures                 *prometheus.CounterVec // To
	PeerReceivedBytes, PeerReceivedFailures         *prometheus.CounterVec // From
	PeerRoundTrip                                   *prometheus.HistogramVec
	SnapshotSendSuccess, SnapshotSendFailures       *prometheus.CounterVec // To
	SnapshotReceiveSuccess, SnapshotReceiveFailures *prometheus.CounterVec // From
	SnapshotSendInflight, SnapshotReceiveInflight   *prometheus.GaugeVec
	SnapshotSendDuration, SnapshotReceiveDuration   *prometheus.HistogramVec
	ServerStreamFailures                            *prometheus.CounterVec // Type, API
	ClientGRPCReceivedBytes, ClientGRPCSentBytes    prometheus.Counter
}

// Health measures the health endpoints.
type Health struct {
	Success, Failures prometheus.Counter     // /health
	Check             *prometheus.GaugeVec   // type, name: 1 ok, 0 not
	Checks            *prometheus.CounterVec // type, name, status
}

// Proxy measures the gRPC proxy; all zero in a member.
type Proxy struct {
	CacheHits, CacheKeys, CacheMisses, WatchersCoalescing prometheus.Gauge
	EventsCoalescing                                      prometheus.Counter
}

// V2 measures the v2 store; zero unless it is asked.
type V2 struct {
	Expires, WatchRequests                   prometheus.Counter
	Watchers                                 prometheus.Gauge
	Reads, ReadsFailed, Writes, WritesFailed *prometheus.CounterVec // action
}

// OS measures the process's files.
type OS struct {
	FDUsed, FDLimit prometheus.Gauge
}

func (m *Metrics) declare() {
	m.declareDisk()
	m.declareMVCC()
	m.declareServer()
	m.declareNetwork()
	m.declareRest()
}

func (m *Metrics) declareDisk() {
	m.Disk = Disk{
		WALFsync:        m.histogram("etcd_disk_wal_fsync_duration_seconds", "Time to sync the WAL.", fromMilli),
		WALWrite:        m.histogram("etcd_disk_wal_write_duration_seconds", "Time to write to the WAL.", fromMilli),
		WALWriteBytes:   m.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the WAL."),
		BackendCommit:   m.histogram("etcd_disk_backend_commit_duration_seconds", "Time to commit to the backend.", fromMilli),
		BackendSnapshot: m.histogram("etcd_disk_backend_snapshot_duration_seconds", "Time to stream the backend as a snapshot.", backupTimes),
		BackendDefrag:   m.histogram("etcd_disk_backend_defrag_duration_seconds", "Time to defragment the backend.", defragTimes),
		CommitRebalance: m.histogram("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "Part of a backend commit that rebalances pages.", fromMilli),
		CommitSpill:     m.histogram("etcd_debugging_disk_backend_commit_spill_duration_seconds", "Part of a backend commit that splits pages.", fromMilli),
		CommitWrite:     m.histogram("etcd_debugging_disk_backend_commit_write_duration_seconds", "Part of a backend commit that writes pages.", fromMilli),
		DefragInflight:  m.gauge("etcd_disk_defrag_inflight", "1 while a defragmentation runs."),
		DBSize:          m.gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the backend file."),
		DBSizeInUse:     m.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Size of the used part of the backend file."),
		DBOpenReadTxns:  m.gauge("etcd_mvcc_db_open_read_transactions", "Open read transactions of the backend."),
		BackendQuota:    m.gauge("etcd_server_quota_backend_bytes", "Size of the backend at which writes are refused."),
	}
	m.Snap = Snap{
		SaveTotal:       m.histogram("etcd_debugging_snap_save_total_duration_seconds", "Time to save a raft snapshot file.", fromMilli),
		SaveMarshalling: m.histogram("etcd_debugging_snap_save_marshalling_duration_seconds", "Part of that which encodes.", fromMilli),
		Fsync:           m.histogram("etcd_snap_fsync_duration_seconds", "Time to sync a raft snapshot file.", fromMilli),
		DBFsync:         m.histogram("etcd_snap_db_fsync_duration_seconds", "Time to sync a received database.", fromMilli),
		DBSaveTotal:     m.histogram("etcd_snap_db_save_total_duration_seconds", "Time to save a received database.", fromTenth),
	}
}

func (m *Metrics) declareMVCC() {
	m.MVCC = MVCC{
		Puts:            m.counter("etcd_mvcc_put_total", "Puts applied."),
		Deletes:         m.counter("etcd_mvcc_delete_total", "Deletes applied."),
		Ranges:          m.counter("etcd_mvcc_range_total", "Ranges read."),
		Txns:            m.counter("etcd_mvcc_txn_total", "Transactions applied."),
		Hash:            m.histogram("etcd_mvcc_hash_duration_seconds", "Time to hash the backend.", hashTimes),
		HashRev:         m.histogram("etcd_mvcc_hash_rev_duration_seconds", "Time to hash the keys at a revision.", hashTimes),
		Keys:            m.gauge("etcd_debugging_mvcc_keys_total", "Live keys."),
		CurrentRev:      m.gauge("etcd_debugging_mvcc_current_revision", "Current revision."),
		CompactRev:      m.gauge("etcd_debugging_mvcc_compact_revision", "Revision of the last compaction."),
		LastCompaction:  m.gauge("etcd_debugging_mvcc_db_compaction_last", "When the last compaction ended, in Unix seconds."),
		CompactedKeys:   m.counter("etcd_debugging_mvcc_db_compaction_keys_total", "Revisions removed by compactions."),
		TotalPutSize:    m.gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes put."),
		Events:          m.counter("etcd_debugging_mvcc_events_total", "Events sent to watchers."),
		CompactionPause: m.histogram("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Longest hold of one step of a compaction.", pausesMs),
		CompactionTotal: m.histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "Time of a whole compaction.", compactMs),
		IndexPause:      m.histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "Hold of the index by a compaction.", indexPauseMs),
	}
	m.Watch = Watch{
		Streams:          m.gauge("etcd_debugging_mvcc_watch_stream_total", "Open watch streams."),
		Watchers:         m.gauge("etcd_debugging_mvcc_watcher_total", "Watchers."),
		SlowWatchers:     m.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind."),
		PendingEvents:    m.gauge("etcd_debugging_mvcc_pending_events_total", "Events waiting to be sent."),
		SendLoop:         m.histogram("etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", "Time to send one watch response.", fromMilli),
		SendLoopPerEvent: m.histogram("etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", "Time to send one watch response, per event.", fromMilli),
		SendLoopControl:  m.histogram("etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", "Time to send one control response.", fromMilli),
		SendLoopProgress: m.histogram("etcd_debugging_server_watch_send_loop_progress_duration_seconds", "Time to send one progress notification.", fromMilli),
	}
	m.Lease = Lease{
		Granted: m.counter("etcd_debugging_lease_granted_total", "Leases granted."),
		Renewed: m.counter("etcd_debugging_lease_renewed_total", "Leases renewed by the leader."),
		Revoked: m.counter("etcd_debugging_lease_revoked_total", "Leases revoked."),
		Expired: m.counter("etcd_debugging_server_lease_expired_total", "Leases expired."),
		TTL:     m.histogram("etcd_debugging_lease_ttl_total", "TTLs of leases, in seconds.", ttls),
	}
	m.Auth = Auth{Revision: m.gauge("etcd_debugging_auth_revision", "Revision of the auth store.")}
}

func (m *Metrics) declareServer() {
	m.Server = Server{
		HasLeader:               m.gauge("etcd_server_has_leader", "1 if a leader is known."),
		IsLeader:                m.gauge("etcd_server_is_leader", "1 if this member leads."),
		IsLearner:               m.gauge("etcd_server_is_learner", "1 if this member is a learner."),
		ID:                      m.gauges("etcd_server_id", "Id of this member, as a label.", "server_id"),
		Version:                 m.gauges("etcd_server_version", "Version of this member, as a label.", "server_version"),
		ClusterVersion:          m.gauges("etcd_cluster_version", "Version of the cluster, as a label.", "cluster_version"),
		GoVersion:               m.gauges("etcd_server_go_version", "Go version of this build, as a label.", "server_go_version"),
		FeatureEnabled:          m.gauges("etcd_server_feature_enabled", "1 if a feature is on.", "name", "stage"),
		Alarms:                  m.gauges("etcd_debugging_server_alarms", "1 for each raised alarm.", "server_id", "alarm_type"),
		LeaderChanges:           m.counter("etcd_server_leader_changes_seen_total", "Changes of the leader."),
		HeartbeatSendFailures:   m.counter("etcd_server_heartbeat_send_failures_total", "Heartbeats that left too late."),
		SlowApplies:             m.counter("etcd_server_slow_apply_total", "Requests that took too long to apply."),
		ProposalsCommitted:      m.gauge("etcd_server_proposals_committed_total", "Index committed."),
		ProposalsApplied:        m.gauge("etcd_server_proposals_applied_total", "Index applied."),
		ProposalsPending:        m.gauge("etcd_server_proposals_pending", "Proposals under way."),
		ProposalsFailed:         m.counter("etcd_server_proposals_failed_total", "Proposals that failed."),
		SlowReadIndexes:         m.counter("etcd_server_slow_read_indexes_total", "Read indexes that took too long."),
		ReadIndexesFailed:       m.counter("etcd_server_read_indexes_failed_total", "Read indexes that failed."),
		SnapshotApplyInProgress: m.gauge("etcd_server_snapshot_apply_in_progress_total", "1 while a raft snapshot is applied."),
		LearnerPromoteSuccesses: m.counter("etcd_server_learner_promote_successes", "Learners promoted while this member led."),
		LearnerPromoteFailures:  m.counters("etcd_server_learner_promote_failures", "Promotions that failed while this member led.", "Reason"),
		ClientRequests:          m.counters("etcd_server_client_requests_total", "Requests by version of the client.", "type", "client_api_version"),
		ApplyDuration:           m.histograms("etcd_server_apply_duration_seconds", "Time to apply a request.", fromTenMicro, "version", "op", "success"),
		RangeDuration:           m.histograms("etcd_server_range_duration_seconds", "Time to read a range.", fromTenMicro, "success"),
		Request:                 m.histograms("etcd_server_request_duration_seconds", "Time from proposal to result.", fromMilli, "type", "success"),
	}
}

func (m *Metrics) declareNetwork() {
	m.Network = Network{
		ActivePeers:             m.gauges("etcd_network_active_peers", "1 for each peer with a live connection.", "Local", "Remote"),
		KnownPeers:              m.gauges("etcd_network_known_peers", "1 for each peer.", "Local", "Remote"),
		DisconnectedPeers:       m.counters("etcd_network_disconnected_peers_total", "Lost connections to peers.", "Local", "Remote"),
		PeerSentBytes:           m.counters("etcd_network_peer_sent_bytes_total", "Bytes sent to a peer.", "To"),
		PeerSentFailures:        m.counters("etcd_network_peer_sent_failures_total", "Failed sends to a peer.", "To"),
		PeerReceivedBytes:       m.counters("etcd_network_peer_received_bytes_total", "Bytes received from a peer.", "From"),
		PeerReceivedFailures:    m.counters("etcd_network_peer_received_failures_total", "Failed receives from a peer.", "From"),
		PeerRoundTrip:           m.histograms("etcd_network_peer_round_trip_time_seconds", "Round trip to a peer.", roundTrips, "To"),
		SnapshotSendSuccess:     m.counters("etcd_network_snapshot_send_success", "Raft snapshots sent.", "To"),
		SnapshotSendFailures:    m.counters("etcd_network_snapshot_send_failures", "Raft snapshots that failed to be sent.", "To"),
		SnapshotSendInflight:    m.gauges("etcd_network_snapshot_send_inflights_total", "Raft snapshots being sent.", "To"),
		SnapshotSendDuration:    m.histograms("etcd_network_snapshot_send_total_duration_seconds", "Time to send a raft snapshot.", fromTenth, "To"),
		SnapshotReceiveSuccess:  m.counters("etcd_network_snapshot_receive_success", "Raft snapshots received.", "From"),
		SnapshotReceiveFailures: m.counters("etcd_network_snapshot_receive_failures", "Raft snapshots that failed to be received.", "From"),
		SnapshotReceiveInflight: m.gauges("etcd_network_snapshot_receive_inflights_total", "Raft snapshots being received.", "From"),
		SnapshotReceiveDuration: m.histograms("etcd_network_snapshot_receive_total_duration_seconds", "Time to receive a raft snapshot.", fromTenth, "From"),
		ServerStreamFailures:    m.counters("etcd_network_server_stream_failures_total", "Failed sends and receives on streams.", "Type", "API"),
		ClientGRPCReceivedBytes: m.counter("etcd_network_client_grpc_received_bytes_total", "Bytes of requests."),
		ClientGRPCSentBytes:     m.counter("etcd_network_client_grpc_sent_bytes_total", "Bytes of responses."),
	}
}

func (m *Metrics) declareRest() {
	m.Health = Health{
		Success:  m.counter("etcd_server_health_success", "Healthy answers of /health."),
		Failures: m.counter("etcd_server_health_failures", "Unhealthy answers of /health."),
		Check:    m.gauges("etcd_server_healthcheck", "1 if a health check was last good.", "type", "name"),
		Checks:   m.counters("etcd_server_healthchecks_total", "Results of health checks.", "type", "name", "status"),
	}
	m.Proxy = Proxy{
		CacheHits:          m.gauge("etcd_grpc_proxy_cache_hits_total", "Ranges answered from the cache."),
		CacheKeys:          m.gauge("etcd_grpc_proxy_cache_keys_total", "Ranges in the cache."),
		CacheMisses:        m.gauge("etcd_grpc_proxy_cache_misses_total", "Ranges not in the cache."),
		WatchersCoalescing: m.gauge("etcd_grpc_proxy_watchers_coalescing_total", "Watchers served by another's stream."),
		EventsCoalescing:   m.counter("etcd_grpc_proxy_events_coalescing_total", "Events served by another's stream."),
	}
	m.V2 = V2{
		Expires:       m.counter("etcd_debugging_store_expires_total", "Expired keys of the v2 store."),
		WatchRequests: m.counter("etcd_debugging_store_watch_requests_total", "Watch requests to the v2 store."),
		Watchers:      m.gauge("etcd_debugging_store_watchers", "Watchers of the v2 store."),
		Reads:         m.counters("etcd_debugging_store_reads_total", "Reads of the v2 store.", "action"),
		ReadsFailed:   m.counters("etcd_debugging_store_reads_failed_total", "Failed reads of the v2 store.", "action"),
		Writes:        m.counters("etcd_debugging_store_writes_total", "Writes to the v2 store.", "action"),
		WritesFailed:  m.counters("etcd_debugging_store_writes_failed_total", "Failed writes to the v2 store.", "action"),
	}
	m.OS = OS{
		FDUsed:  m.gauge("os_fd_used", "Files open."),
		FDLimit: m.gauge("os_fd_limit", "Files that may be open."),
	}
}

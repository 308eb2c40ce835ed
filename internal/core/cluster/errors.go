package cluster

// Error is an outcome that a client is told. Upstream has two texts for some:
// one for clients, one between members and in logs.
type Error struct {
	text     string
	internal string
}

func (e *Error) Error() string { return e.text }

// Internal is the text that logs, start-up errors and answers to other members
// carry.
func (e *Error) Internal() string {
	if e.internal != "" {
		return e.internal
	}
	return e.text
}

// The outcomes of membership, version and downgrade requests.
var (
	ErrRemoved         = &Error{"etcdserver: member not found", "membership: ID removed"}
	ErrNotFound        = &Error{"etcdserver: member not found", "membership: ID not found"}
	ErrExists          = &Error{"etcdserver: member ID already exist", "membership: ID exists"}
	ErrPeerURLExists   = &Error{"etcdserver: Peer URLs already exists", "membership: peerURL exists"}
	ErrNotLearner      = &Error{"etcdserver: can only promote a learner member", "membership: can only promote a learner member"}
	ErrTooManyLearners = &Error{"etcdserver: too many learner members in cluster", "membership: too many learner members in cluster"}
	ErrBadURLs         = &Error{text: "etcdserver: given member URLs are invalid"}

	ErrNotEnoughStarted = &Error{text: "etcdserver: re-configuration failed due to not enough started members"}
	ErrUnhealthy        = &Error{text: "etcdserver: unhealthy cluster"}
	ErrLearnerNotReady  = &Error{text: "etcdserver: can only promote a learner member which is in sync with leader"}

	ErrWrongVersionFormat  = &Error{text: "etcdserver: wrong downgrade target version format"}
	ErrInvalidTarget       = &Error{text: "etcdserver: invalid downgrade target version"}
	ErrDowngradeInProgress = &Error{text: "etcdserver: cluster has a downgrade job in progress"}
	ErrNoClusterVersion    = &Error{text: "etcdserver: cluster version not found during downgrade"}
)

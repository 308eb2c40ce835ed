package cluster

// Strict reconfiguration: a change of the membership must leave a quorum of
// members that have started, and must not be made while the cluster is hardly
// holding together. These checks guard an operator's request before it is
// proposed; they are advice of one member at one time, not part of applying.

// quorum is the least number of n voters that decide.
func quorum(n int) int { return n/2 + 1 }

// MayAdd says whether a member may be added now. connected is the number of
// voters, this member included, that this member has been connected to for a
// while.
func (c *Cluster) MayAdd(m Member, connected int) error {
	voters, started := c.count(0)
	// Adding the second member to one that works is how data is saved after a
	// loss, and the new one cannot have started before.
	saving := voters == 1 && started == 1
	if !m.IsLearner && !saving && started < quorum(voters+1) {
		return ErrNotEnoughStarted
	}
	if connected < quorum(voters) {
		return ErrUnhealthy
	}
	return nil
}

// MayRemove says whether a member may be removed now. self is this member;
// active tells whether this member is connected to another.
func (c *Cluster) MayRemove(id, self uint64, active func(id uint64) bool) error {
	m, ok := c.members[id]
	if !ok {
		return ErrNotFound
	}
	if m.IsLearner {
		return nil
	}
	voters, started := c.count(id)
	if voters == 0 || started < quorum(voters) {
		return ErrNotEnoughStarted
	}
	if id != self && !active(id) {
		return nil // it is down: the quorum does not rest on it
	}
	if c.active(self, active)-1 < quorum(voters) {
		return ErrUnhealthy
	}
	return nil
}

// MayPromote says whether a learner may be promoted now. It leaves it to Check
// whether the member exists and is a learner.
func (c *Cluster) MayPromote(id uint64) error {
	voters, started := c.count(id)
	if started+1 < quorum(voters+1) {
		return ErrNotEnoughStarted
	}
	return nil
}

// CheckInSync says whether a learner has caught up with the leader's log far
// enough to vote without holding the cluster up.
func CheckInSync(learnerMatch, leaderMatch uint64) error {
	const inSync = 0.9
	if float64(learnerMatch) < float64(leaderMatch)*inSync {
		return ErrLearnerNotReady
	}
	return nil
}

// count counts voters and those of them that have started, leaving one out.
func (c *Cluster) count(except uint64) (voters, started int) {
	for _, m := range c.members {
		if m.IsLearner || m.ID == except {
			continue
		}
		voters++
		if m.IsStarted() {
			started++
		}
	}
	return voters, started
}

// active counts the voters that this member is connected to, itself included.
func (c *Cluster) active(self uint64, active func(uint64) bool) int {
	n := 0
	for _, m := range c.Voters() {
		if m.ID == self || active(m.ID) {
			n++
		}
	}
	return n
}

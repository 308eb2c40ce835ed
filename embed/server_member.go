package embed

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/core/auth"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/member"
)

// memberOptions picks out of the configuration what the member uses.
func (s *Server) memberOptions() (member.Options, error) {
	c := s.cfg
	initial, err := cluster.ParseInitial(c.InitialCluster)
	if err != nil {
		return member.Options{}, fmt.Errorf("error setting up initial cluster: %w", err)
	}
	compaction, err := c.Compaction()
	if err != nil {
		return member.Options{}, err
	}
	authOptions, err := c.authOptions()
	if err != nil {
		return member.Options{}, err
	}
	peerTLS, err := c.peerTLS()
	if err != nil {
		return member.Options{}, err
	}
	return member.Options{
		FS: files.OS, DataDir: c.DataDir(), WALDir: c.WalDir, Log: s.log,
		Name: c.Name, ClientURLs: urlTexts(c.AdvertiseClientUrls), PeerURLs: urlTexts(c.AdvertisePeerUrls),
		Initial: initial, Token: c.InitialClusterToken, JoinExisting: !c.IsNewCluster(),
		Tick: c.TickInterval(), ElectionTicks: c.ElectionTicks(), PreVote: c.PreVote,
		MaxLearners: c.MaxLearners, StrictReconfig: c.StrictReconfigCheck,
		SnapshotCount: c.SnapshotCount, CatchUpEntries: c.SnapshotCatchUpEntries,
		MaxSnapshots: int(c.MaxSnapFiles), MaxWALs: int(c.MaxWalFiles),
		QuotaBytes: c.QuotaBackendBytes, FlushInterval: c.BackendBatchInterval, FreelistType: c.BackendFreelistType,
		UnsafeNoSync: c.UnsafeNoFsync, MaxRequestBytes: int(c.MaxRequestBytes),
		CompactionBatch: c.CompactionBatchLimit, CompactionPause: c.CompactionSleepInterval,
		AutoCompact:       member.AutoCompact{Period: compaction.Period, Revisions: compaction.Revisions},
		LeaseCheckpoint:   c.FeatureGates.Enabled(LeaseCheckpoint),
		PersistCheckpoint: c.FeatureGates.Enabled(LeaseCheckpointPersist),
		Auth:              authOptions,
		PeerTLS:           peerTLS,
		Metrics:           s.metrics, WarnApply: c.WarningApplyDuration,
	}, nil
}

// authOptions reads the settings of authentication and the key files they name.
func (c *Config) authOptions() (member.AuthOptions, error) {
	token, err := auth.ParseTokenOptions(c.AuthToken)
	if err != nil {
		return member.AuthOptions{}, err
	}
	o := member.AuthOptions{Token: token, SimpleTTL: time.Duration(c.AuthTokenTTL) * time.Second, BcryptCost: int(c.BcryptCost)}
	for _, key := range []struct {
		file string
		to   *[]byte
	}{{token.PublicKeyFile, &o.Keys.Public}, {token.PrivateKeyFile, &o.Keys.Private}} {
		if key.file == "" {
			continue
		}
		if *key.to, err = os.ReadFile(key.file); err != nil {
			return o, fmt.Errorf("auth token key: %w", err)
		}
	}
	return o, nil
}

// checkIdentity refuses a description of the cluster in which this member has
// no place. A member that has lived before is who it is.
func (s *Server) checkIdentity(initial cluster.Initial) error {
	c := s.cfg
	if err := cluster.CheckLearners(nil, c.MaxLearners); err != nil {
		return err
	}
	if s.hasLived() {
		return nil
	}
	if err := initial.Check(c.Name); err != nil {
		return err
	}
	advertised := urlTexts(c.AdvertisePeerUrls)
	return initial.CheckAdvertised(c.Name, advertised, sameURLs(initial[c.Name], advertised))
}

// sameURLs compares two lists of URLs without regard to order; nil if they are
// the same. Names are resolved only if the texts differ.
func sameURLs(a, b []string) error {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	if slices.Equal(a, b) {
		return nil
	}
	return fmt.Errorf("resolved urls: %q != %q", strings.Join(b, ","), strings.Join(a, ","))
}

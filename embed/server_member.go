package embed

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/core/auth"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/disk/backend"
	"github.com/steledb/stele/internal/member"
)

// memberOptions picks out of the configuration what the member uses.
func (s *Server) memberOptions() (member.Options, error) {
	c := s.cfg
	described, err := s.initialCluster()
	if err != nil {
		return member.Options{}, fmt.Errorf("error setting up initial cluster: %w", err)
	}
	initial, err := cluster.ParseInitial(described)
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
		FS: c.fileSystem(), OpenBackend: c.openBackend, DataDir: c.DataDir(), WALDir: c.WalDir, Log: s.log,
		Name: c.Name, ClientURLs: urlTexts(c.AdvertiseClientUrls), PeerURLs: urlTexts(c.AdvertisePeerUrls),
		Initial: initial, Token: c.InitialClusterToken, JoinExisting: !c.IsNewCluster(),
		Tick: c.TickInterval(), ElectionTicks: c.ElectionTicks(), PreVote: c.PreVote,
		MaxLearners: c.MaxLearners, StrictReconfig: c.StrictReconfigCheck,
		SnapshotCount: c.SnapshotCount, CatchUpEntries: c.SnapshotCatchUpEntries,
		MaxSnapshots: int(c.MaxSnapFiles), MaxWALs: int(c.MaxWalFiles),
		QuotaBytes: c.QuotaBackendBytes, FlushInterval: c.BackendBatchInterval, FreelistType: c.BackendFreelistType,
		MaxRequestBytes: int(c.MaxRequestBytes),
		CompactionBatch: c.CompactionBatchLimit, CompactionPause: c.CompactionSleepInterval,
		AutoCompact:       member.AutoCompact{Period: compaction.Period, Revisions: compaction.Revisions},
		LeaseCheckpoint:   c.FeatureGates.Enabled(LeaseCheckpoint),
		PersistCheckpoint: c.FeatureGates.Enabled(LeaseCheckpointPersist),
		Auth:              authOptions,
		PeerTLS:           peerTLS,
		Metrics:           s.metrics, WarnApply: c.WarningApplyDuration,
		Defragmenting: s.defragmenting,
	}, nil
}

// initialCluster describes the cluster to found or to join. A member that has
// lived before does not look for one.
func (s *Server) initialCluster() (string, error) {
	if s.cfg.DNSCluster == "" || s.hasLived() {
		return s.cfg.InitialCluster, nil
	}
	return s.cfg.srvCluster(net.LookupSRV)
}

// fileSystem is where the log and the snapshot files are.
func (c *Config) fileSystem() files.FS {
	if c.UnsafeNoFsync {
		return files.NoSync(files.OS)
	}
	return files.OS
}

// openBackend opens the database as the operator wishes.
func (c *Config) openBackend(path string, opt backend.Options) (backend.Backend, error) {
	opt.NoSync, opt.Mlock = c.UnsafeNoFsync, c.MemoryMlock
	b, err := backend.Open(path, opt)
	if err != nil {
		return nil, &member.PanicError{Msg: "failed to open database", Path: path, Err: err}
	}
	return b, nil
}

// authOptions reads the settings of authentication and the key files they
// name. Whatever is wrong with them, the error has the same text; the log tells.
func (c *Config) authOptions() (member.AuthOptions, error) {
	token, err := auth.ParseTokenOptions(c.AuthToken)
	o := member.AuthOptions{Token: token, SimpleTTL: time.Duration(c.AuthTokenTTL) * time.Second, BcryptCost: int(c.BcryptCost)}
	if err == nil {
		err = readKeys(token, &o.Keys)
	}
	if err == nil {
		return o, nil
	}
	cause := err
	if option := (*auth.OptionError)(nil); errors.As(err, &option) {
		cause = option.Cause
	}
	if token.Kind == auth.JWTTokens {
		c.Log().Error("problem loading JWT options", "error", cause)
	} else {
		c.Log().Warn("unknown token type", "type", token.Kind, "error", auth.ErrInvalidOptions)
	}
	c.Log().Warn("failed to create token provider", "error", auth.ErrInvalidOptions)
	return o, &auth.OptionError{Cause: cause}
}

func readKeys(token auth.TokenOptions, to *auth.Keys) (err error) {
	for _, key := range []struct {
		file string
		to   *[]byte
	}{{token.PublicKeyFile, &to.Public}, {token.PrivateKeyFile, &to.Private}} {
		if key.file == "" {
			continue
		}
		if *key.to, err = os.ReadFile(key.file); err != nil {
			return err
		}
	}
	return nil
}

// errTooManyLearners is a limit that not even an empty cluster keeps.
var errTooManyLearners = errors.New("membership: too many learner members in cluster")

// checkIdentity refuses a description of the cluster in which this member has
// no place. A member that has lived before is who it is.
func (s *Server) checkIdentity(initial cluster.Initial) error {
	c := s.cfg
	if cluster.CheckLearners(nil, c.MaxLearners) != nil {
		return errTooManyLearners
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

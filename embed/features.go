package embed

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Feature is something that may be turned on or off by --feature-gates.
type Feature string

// The features of this release. All... stand for every feature of a stage.
const (
	AllAlpha                     Feature = "AllAlpha"
	AllBeta                      Feature = "AllBeta"
	CompactHashCheck             Feature = "CompactHashCheck"
	FastLeaseKeepAlive           Feature = "FastLeaseKeepAlive"
	InitialCorruptCheck          Feature = "InitialCorruptCheck"
	LeaseCheckpoint              Feature = "LeaseCheckpoint"
	LeaseCheckpointPersist       Feature = "LeaseCheckpointPersist"
	PriorityRequest              Feature = "PriorityRequest"
	SetMemberLocalAddr           Feature = "SetMemberLocalAddr"
	StopGRPCServiceOnDefrag      Feature = "StopGRPCServiceOnDefrag"
	TxnModeWriteWithSharedBuffer Feature = "TxnModeWriteWithSharedBuffer"
)

// FeatureInfo is one row of the list of features.
type FeatureInfo struct {
	Name    Feature
	Stage   string // ALPHA or BETA
	Default bool
}

// Features returns every feature, sorted by name.
func Features() []FeatureInfo { return features }

var features = []FeatureInfo{
	{AllAlpha, "ALPHA", false},
	{AllBeta, "BETA", false},
	{CompactHashCheck, "ALPHA", false},
	{FastLeaseKeepAlive, "BETA", true},
	{InitialCorruptCheck, "ALPHA", false},
	{LeaseCheckpoint, "ALPHA", false},
	{LeaseCheckpointPersist, "ALPHA", false},
	{PriorityRequest, "ALPHA", false},
	{SetMemberLocalAddr, "ALPHA", false},
	{StopGRPCServiceOnDefrag, "ALPHA", false},
	{TxnModeWriteWithSharedBuffer, "BETA", true},
}

// FeatureGates says which features are on. It is a flag.Value: Set adds to
// what was set before, or changes nothing when any part is wrong.
type FeatureGates struct {
	// given holds only what was asked for by name.
	given map[Feature]bool
}

// NewFeatureGates returns the defaults.
func NewFeatureGates() FeatureGates { return FeatureGates{} }

// Enabled reports whether a feature is on: as asked for by name, else as asked
// for its whole stage, else by default.
func (g FeatureGates) Enabled(name Feature) bool {
	if on, ok := g.given[name]; ok {
		return on
	}
	info, ok := featureInfo(name)
	if !ok {
		return false
	}
	stage := map[string]Feature{"ALPHA": AllAlpha, "BETA": AllBeta}[info.Stage]
	if on, ok := g.given[stage]; ok && name != stage {
		return on
	}
	return info.Default
}

// Set reads "name=bool,name=bool".
func (g *FeatureGates) Set(text string) error {
	parsed := map[Feature]bool{}
	for _, part := range strings.Split(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, on, err := parseGate(part)
		if err != nil {
			return err
		}
		parsed[name] = on
	}
	for name, on := range g.given { // what was set before, unless said anew
		if _, again := parsed[name]; !again {
			parsed[name] = on
		}
	}
	g.given = parsed
	return nil
}

func parseGate(part string) (Feature, bool, error) {
	name, value, ok := strings.Cut(part, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok {
		return "", false, fmt.Errorf("missing bool value for %s", name)
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return "", false, fmt.Errorf("invalid value of %s=%s, err: %w", name, value, err)
	}
	if _, known := featureInfo(Feature(name)); !known {
		return "", false, fmt.Errorf("unrecognized feature gate: %s", name)
	}
	return Feature(name), on, nil
}

// String lists what was asked for by name.
func (g FeatureGates) String() string {
	parts := make([]string, 0, len(g.given))
	for name, on := range g.given {
		parts = append(parts, fmt.Sprintf("%s=%v", name, on))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func featureInfo(name Feature) (FeatureInfo, bool) {
	for _, f := range features {
		if f.Name == name {
			return f, true
		}
	}
	return FeatureInfo{}, false
}

// Package version states which etcd this server is compatible with and which
// build it is. Every place that reports a version derives it from here.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

const (
	// Etcd is the release whose behaviour, files and protocols this server
	// follows. It is what /version, Status and the peer headers report.
	Etcd = "3.7.1"

	// MinCluster is the oldest cluster version a member of this release can
	// talk to: the value of the X-Min-Cluster-Version peer header.
	MinCluster = "3.0.0"

	// unknownSHA is shown when neither the linker nor the build recorded a commit.
	unknownSHA = "unknown"
)

var (
	// Stele is this project's own release; -ldflags "-X" sets it in release builds.
	Stele = "0.0.0-dev"

	// GitSHA is the commit of the build; -ldflags "-X" sets it in release builds.
	GitSHA = ""
)

// SHA returns the commit of this build: what the linker was told, else what
// the Go toolchain recorded, else a remark that nobody knows.
func SHA() string {
	if GitSHA != "" {
		return GitSHA
	}
	if sha := recordedSHA(); sha != "" {
		return sha
	}
	return unknownSHA
}

// recordedSHA returns the short commit of the toolchain's build stamp.
func recordedSHA() string {
	const short = 9
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= short {
			return s.Value[:short]
		}
	}
	return ""
}

// Text is the output of `etcd --version`: four lines that scripts parse.
func Text() string {
	return fmt.Sprintf("etcd Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		Etcd, SHA(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

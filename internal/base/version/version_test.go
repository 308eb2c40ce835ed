package version

import (
	"regexp"
	"testing"
)

// Scripts cut the version out of these four lines, so their shape is fixed.
func TestTextKeepsItsFourLines(t *testing.T) {
	want := regexp.MustCompile(`^etcd Version: 3\.7\.1\nGit SHA: \S+\nGo Version: go\S+.*\nGo OS/Arch: \w+/\w+\n$`)
	if got := Text(); !want.MatchString(got) {
		t.Fatalf("version text changed:\n%s", got)
	}
}

// A release build names its commit; that name wins over the build stamp.
func TestLinkerCommitWins(t *testing.T) {
	defer func(old string) { GitSHA = old }(GitSHA)
	GitSHA = "abc123"
	if SHA() != "abc123" {
		t.Fatalf("SHA() = %q", SHA())
	}
}

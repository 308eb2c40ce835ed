package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docPath finds `internal/...`-like paths in code quotes of a document.
var docPath = regexp.MustCompile("`((?:internal|embed|cmd|client|docs|test|contrib)/[A-Za-z0-9_./*-]+)`")

// Goal: a document never names a file that is gone. Method: every quoted path
// in a Markdown file of the project must exist.
func TestDocumentPathsExist(t *testing.T) {
	root := "../.."
	found := 0
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".md") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range docPath.FindAllStringSubmatch(string(text), -1) {
			found++
			if hits, _ := filepath.Glob(filepath.Join(root, m[1])); len(hits) == 0 {
				t.Errorf("%s names %s, which does not exist: mend the text or the path", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "ARCHITECTURE.md")); err == nil && found == 0 {
		t.Error("no path found in any document; the pattern does not match any more")
	}
}

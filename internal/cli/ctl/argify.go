package ctl

import "strconv"

// argify splits a line of `txn` or `watch -i` into arguments:
//
//	plain        up to the next space; quotes inside are ordinary characters
//	"quoted\t"   with Go's escapes
//	'as it is'   without escapes
//
// A quote that is never closed is skipped, and what follows is split as plain.
// Back quotes mean nothing.
func argify(line string) []string {
	var args []string
	for i := 0; i < len(line); {
		switch c := line[i]; {
		case isSpace(c):
			i++
		case c == '"' || c == '\'':
			end, ok := closingQuote(line, i)
			if !ok {
				i++
				continue
			}
			args = append(args, unquote(line[i:end+1]))
			i = end + 1
		default:
			end := i
			for end < len(line) && !isSpace(line[end]) {
				end++
			}
			args = append(args, line[i:end])
			i = end
		}
	}
	return args
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f'
}

// closingQuote finds the partner of the quote at start.
func closingQuote(line string, start int) (int, bool) {
	quote := line[start]
	for i := start + 1; i < len(line); i++ {
		switch {
		case line[i] == quote:
			return i, true
		case line[i] == '\\' && quote == '"':
			i++
		}
	}
	return 0, false
}

// unquote takes a whole quoted token. Escapes Go does not know leave the text
// between the quotes as it is.
func unquote(token string) string {
	inner := token[1 : len(token)-1]
	if token[0] == '\'' {
		return inner
	}
	if s, err := strconv.Unquote(token); err == nil {
		return s
	}
	return inner
}

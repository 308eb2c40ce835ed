package auth

import (
	"encoding/base64"

	"golang.org/x/crypto/bcrypt"
)

// DefaultCost is the bcrypt cost unless an operator chose another.
const DefaultCost = bcrypt.DefaultCost

// The costs bcrypt accepts.
const (
	MinCost = bcrypt.MinCost
	MaxCost = bcrypt.MaxCost
)

// HashPassword hashes a password in the form that requests carry in
// hashedPassword. It is slow on purpose and belongs outside of applying.
func HashPassword(password string, cost int) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(hash), nil
}

// LegacyHash hashes a password for Options.LegacyHash.
func LegacyHash(cost int) func(password string) ([]byte, error) {
	return func(password string) ([]byte, error) {
		return bcrypt.GenerateFromPassword([]byte(password), cost)
	}
}

// CheckPassword compares a password with a user's. It is slow on purpose. The
// revision is that of this view: the member proposes the authentication and
// starts over if the revision is another one afterwards, since the password may
// have changed in between.
func (v *View) CheckPassword(user, password string) (revision uint64, err error) {
	hash, err := v.passwordOf(user)
	if err != nil {
		return 0, err
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil {
		return 0, ErrAuthFailed
	}
	return v.revision, nil
}

// passwordOf is the hash of a user who may log in with a password.
func (v *View) passwordOf(user string) ([]byte, error) {
	if !v.enabled {
		return nil, ErrNotEnabled
	}
	u := v.users[user]
	if u == nil {
		return nil, ErrAuthFailed
	}
	if u.NoPassword {
		return nil, ErrNoPasswordUser
	}
	return u.Password, nil
}

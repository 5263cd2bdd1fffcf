package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A cluster for tests lives for hours; its certificates may not outlive it by much.
const validFor = 30 * 24 * time.Hour

// issuer signs certificates and writes them into a folder.
type issuer struct {
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

// certificates writes `ca`, `service-account` and one certificate for each request into a folder, each as
// NAME.crt and NAME.key. A request reads NAME/GROUP/USER/ADDRESS,ADDRESS with empty parts where there is
// none; an address is an IP or a DNS name.
func certificates(args []string) error {
	if len(args) < 1 {
		return errors.New("usage: certificates FOLDER NAME/GROUP/USER/ADDRESS,...")
	}
	ca, err := newIssuer(args[0])
	if err != nil {
		return err
	}
	if err := ca.serviceAccountKey(); err != nil {
		return err
	}
	for _, request := range args[1:] {
		if err := ca.issue(request); err != nil {
			return fmt.Errorf("%s: %w", request, err)
		}
	}
	return nil
}

func newIssuer(folder string) (*issuer, error) {
	template, err := template("ca")
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &issuer{folder: folder, cert: template, key: key}
	return ca, ca.sign("ca", template, key)
}

func (ca *issuer) issue(request string) error {
	parts := strings.Split(request, "/")
	if len(parts) != 4 {
		return errors.New("needs NAME/GROUP/USER/ADDRESSES")
	}
	template, err := template(parts[2])
	if err != nil {
		return err
	}
	if parts[1] != "" {
		template.Subject.Organization = []string{parts[1]}
	}
	for _, address := range strings.FieldsFunc(parts[3], func(r rune) bool { return r == ',' }) {
		if ip := net.ParseIP(address); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, address)
		}
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return ca.sign(parts[0], template, key)
}

func template(commonName string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(validFor),
	}, nil
}

func (ca *issuer) sign(name string, template *x509.Certificate, key *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := ca.write(name+".key", "PRIVATE KEY", private); err != nil {
		return err
	}
	return ca.write(name+".crt", "CERTIFICATE", der)
}

// serviceAccountKey makes the key that signs the tokens of pods. RSA, since OIDC clients all know it.
func (ca *issuer) serviceAccountKey() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := ca.write("service-account.key", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)); err != nil {
		return err
	}
	return ca.write("service-account.pub", "PUBLIC KEY", public)
}

func (ca *issuer) write(file, kind string, der []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return os.WriteFile(filepath.Join(ca.folder, file), text, 0o600)
}

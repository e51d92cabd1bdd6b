# Sourced by up: an authority of the lab's own, and certificates that it signs. They are good for a month.
# shellcheck shell=bash

certificate() { # FOLDER NAME EXTENSIONS OPTION...: makes FOLDER/NAME-cert.pem and FOLDER/NAME-key.pem
  local folder=$1 name=$2 extensions=$3
  shift 3
  # The keys are for their owner alone, and a configuration of our own keeps the machine's out.
  as_user bash -c 'umask 077; printf "[req]\ndistinguished_name=dn\n[dn]\n[ext]\n%b" "$1" > "$2"' \
    - "$extensions" "$folder/$name.cnf"
  as_user openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -config "$folder/$name.cnf" -extensions ext -keyout "$folder/$name-key.pem" -out "$folder/$name-cert.pem" "$@" \
    2> "$dir/tls.log" || { cat "$dir/tls.log" >&2; die "openssl could not make the certificate $name"; }
}

make_authority() { # makes DIR/tls: the authority, and a certificate for whoever calls the hosts
  as_user mkdir -p "$dir/tls"
  certificate "$dir/tls" ca 'basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\n' -subj "/CN=lab"
  client_certificate "$dir/tls"
}

signed() { # FOLDER NAME EXTENSIONS SUBJECT
  certificate "$1" "$2" "basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature,keyEncipherment\n$3" \
    -subj "/CN=$4" -CA "$dir/tls/ca-cert.pem" -CAkey "$dir/tls/ca-key.pem"
}

client_certificate() { # FOLDER: also under the names that libvirt's pkipath= looks for
  signed "$1" client 'extendedKeyUsage=clientAuth\n' client
  as_user ln -s ca-cert.pem "$1/cacert.pem"
  as_user ln -s client-cert.pem "$1/clientcert.pem"
  as_user ln -s client-key.pem "$1/clientkey.pem"
}

host_certificates() { # NAME ADDRESS: makes DIR/NAME/tls as QEMU wants it
  local folder=$dir/$1/tls
  as_user mkdir -p "$folder"
  as_user cp "$dir/tls/ca-cert.pem" "$folder/"
  signed "$folder" server "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:$1,IP:$2\n" "$1"
  client_certificate "$folder"
}

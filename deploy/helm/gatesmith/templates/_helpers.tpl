{{- define "gatesmith.labels" -}}
app.kubernetes.io/name: gatesmith
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "gatesmith.image" -}}
{{- $image := .image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "gatesmith.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "gatesmith.buildUrl" -}}
http://{{ .Release.Name }}-builds.{{ .Release.Namespace }}.svc:8090
{{- end }}

{{/* One specification for the cluster's runtime and for a namespace's. */}}
{{- define "gatesmith.runtimeSpec" -}}
annotations:
  prometheus.kserve.io/port: "8080"
  prometheus.kserve.io/path: /metrics
supportedModelFormats:
  - {name: fpga, version: "1", autoSelect: true, priority: 1}
  - {name: onnx, version: "1", autoSelect: {{ .Values.runtime.autoSelectOnnx }}, priority: 2}
protocolVersions: [v1, v2, grpc-v2]
multiModel: false
{{- with .Values.images.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
containers:
  - name: kserve-container
    image: {{ include "gatesmith.image" (dict "image" .Values.images.runtime "root" .) }}
    imagePullPolicy: {{ .Values.images.runtime.pullPolicy }}
    command: [gatesmith]
    args:
      - serve
      - {{ `"{{.Name}}=/mnt/models"` }}
      - --host=0.0.0.0
      - --http-port=8080
      - --grpc-port=8081
      {{- if .Values.runtime.fallbackEmulator }}
      - --fallback=emulator
      {{- end }}
    env:
      - {name: GATESMITH_HOME, value: /var/lib/gatesmith}
      - {name: GATESMITH_BOARD, value: {{ .Values.runtime.board | quote }}}
      - {name: GATESMITH_RESIDENTS, value: /var/run/gatesmith}
      - {name: GATESMITH_LOG_FORMAT, value: json}
      - {name: GATESMITH_DRAIN_S, value: "5"}
      {{- if .Values.buildService.enabled }}
      - {name: GATESMITH_BUILD_SERVICE, value: {{ include "gatesmith.buildUrl" . | quote }}}
      - {name: GATESMITH_BUILD_TOKEN_FILE, value: /etc/gatesmith/build/token}
      {{- end }}
      {{- with .Values.runtime.precision }}
      - {name: GATESMITH_BUILD_PRECISION, value: {{ toString . | quote }}}
      {{- end }}
      {{- if not (kindIs "invalid" .Values.runtime.tolerance) }}
      - {name: GATESMITH_BUILD_TOLERANCE, value: {{ toString .Values.runtime.tolerance | quote }}}
      {{- end }}
      {{- with .Values.runtime.env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - {containerPort: 8080, protocol: TCP}
    startupProbe:
      httpGet: {path: {{ `"/v2/models/{{.Name}}/ready"` }}, port: 8080}
      periodSeconds: 2
      timeoutSeconds: 2
      failureThreshold: {{ div (int .Values.runtime.startupSeconds) 2 }}
    readinessProbe:
      httpGet: {path: {{ `"/v2/models/{{.Name}}/ready"` }}, port: 8080}
      periodSeconds: 2
      timeoutSeconds: 2
      failureThreshold: 2
    livenessProbe:
      httpGet: {path: /v2/health/live, port: 8080}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    resources: {{- toYaml .Values.runtime.resources | nindent 6 }}
    securityContext: {{- include "gatesmith.restricted" . | nindent 6 }}
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
      - {name: gatesmith-home, mountPath: /var/lib/gatesmith}
      - {name: gatesmith-tmp, mountPath: /tmp}
      {{- if .Values.buildService.enabled }}
      - {name: gatesmith-build-token, mountPath: /etc/gatesmith/build, readOnly: true}
      {{- end }}
volumes:
  - {name: gatesmith-home, emptyDir: {}}
  - {name: gatesmith-tmp, emptyDir: {}}
  {{- if .Values.buildService.enabled }}
  - name: gatesmith-build-token
    secret:
      secretName: {{ .Values.buildService.tokenSecret }}
      optional: true
      items: [{key: token, path: token}]
  {{- end }}
{{- end }}

{# The rows of some Parquet files of the lake, or none of them with the same columns. columns: name -> DuckDB type. #}
{% macro lake_table(files, columns) %}
  {% if files %}
    select {% for name in columns %}cast({{ name }} as {{ columns[name] }}) as {{ name }}{{ ", " if not loop.last }}{% endfor %}
    from read_parquet([{% for file in files %}'{{ file | replace("'", "''") }}'{{ ", " if not loop.last }}{% endfor %}])
  {% else %}
    select {% for name in columns %}cast(null as {{ columns[name] }}) as {{ name }}{{ ", " if not loop.last }}{% endfor %}
    where false
  {% endif %}
{% endmacro %}
